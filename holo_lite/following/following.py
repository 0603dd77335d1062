"""Come together with the others, do one task after another, and end when the first rank does."""

from __future__ import annotations

import logging

from holo_lite.cancel import Cancelled
from holo_lite.errors import HoloError, RanksError
from holo_lite.opening.company import facts_here, local_device
from holo_lite.ranks.forming import form, kind_of_device
from holo_lite.ranks.group import Parted
from holo_lite.ranks.launch import Opening
from holo_lite.ranks.meeting import LEAD
from holo_lite.ranks.team import END
from holo_lite.ranks.wires import Seat
from holo_lite.render.followed import Follower
from holo_lite.render.together import why_of
from holo_lite.system.device import pick_device

logger = logging.getLogger(__name__)


def follow_torchrun() -> bool:
    """Follow, if torchrun has started this process as any but the first rank; whether it has."""
    seat = Seat.of_torchrun()
    if seat is None or seat.rank == LEAD:
        return False
    kind = kind_of_device(seat)
    follow(Opening(seat, kind if kind == "cpu" else local_device(seat)))
    return True


def follow(opening: Opening) -> None:
    """Follow until the first rank ends the team. Raises `RanksError` where it is lost."""
    device = pick_device(opening.device)
    team = form(opening.seat, device, facts_here(device, opening.seat.here), patience=opening.patience).team
    follower = Follower(team, opening.device)
    while True:
        try:
            name, task = team.take()
        except Parted as error:
            raise RanksError(str(error)) from error
        if task["do"] == END:
            team.watch.stop()
            return
        try:
            follower.steps(name, task)
        except (HoloError, RuntimeError, OSError) as error:  # it ends this task; the next may be another model's
            logger.exception("task %s", name)
            team.end(name, why_of(error))
        except Cancelled:
            logger.info("task %s was cancelled", name)
