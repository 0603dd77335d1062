"""Continuing when memory runs out: the same work again, with a smaller plan.

The smaller plan is taken after the failed work has been left entirely: an exception that is being handled keeps its
frames alive, and these keep the tensors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType

import torch

from holo_lite.errors import RoomError, in_a_line
from holo_lite.events import SteppedDown
from holo_lite.plan.ladder import Shortage, shortage_of
from holo_lite.plan.plan import Plan, Rung
from holo_lite.render.device_memory import clear
from holo_lite.streaming.lane import PinError

LONGEST = 120  # characters of what the system said, in a message to a person
logger = logging.getLogger(__name__)
Down = Callable[[Plan, Shortage], tuple[Plan, str]]
KeepPlan = Callable[[Plan], None]


@dataclass
class OomRetry:
    """What is done when memory runs out. A context around each attempt, which lets nothing else pass.

        while True:
            with retry:
                yield from attempt(plan)
                return
            yield (down := retry.down(plan, place))
            plan = down.plan

    `smaller` gives the next plan and what is smaller in it, or raises `RoomError`; `keep` is called with each one.
    """

    device: torch.device
    smaller: Down
    keep: KeepPlan = lambda _: None
    _shortage: tuple[Shortage, str] | None = field(default=None, init=False)

    def __enter__(self) -> None:
        self._shortage = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, RuntimeError | PinError) or (shortage := shortage_of(error)) is None:
            return False
        self._shortage = shortage, in_a_line(error, LONGEST)
        return True

    def down(self, plan: Plan, place: str) -> SteppedDown:
        """Clear the device after a failed attempt, and take the next plan. `place` is where in the run it failed.

        Raises what `smaller` raises.
        """
        assert self._shortage is not None, "an attempt has failed"
        shortage, reason = self._shortage
        clear(self.device)
        try:
            smaller, change = self.smaller(plan, shortage)
        except RoomError as error:
            raise RoomError(f"{error} ({reason})") from None
        smaller = replace(smaller, rungs=(*plan.rungs, Rung(place, change)))
        self.keep(smaller)
        logger.info("%s: memory ran out (%s); continuing with %s", place, reason, change)
        return SteppedDown(smaller, change)
