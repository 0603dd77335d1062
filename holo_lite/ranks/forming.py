"""How a team comes together: every rank says what it has, and all take the same transport.

NCCL needs cards, one a rank, and its library on every machine; where one of these is missing, or the ranks do not
reach each other by it, they take gloo. Which one, and why, is for a person to read.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from holo_lite.errors import RanksError
from holo_lite.ranks.engine import LOOPBACK, Store, Transport, has_nccl
from holo_lite.ranks.group import Group, Parted, Place
from holo_lite.ranks.launch import Ranks, name_of
from holo_lite.ranks.meeting import LEAD
from holo_lite.ranks.team import Team
from holo_lite.ranks.watch import PATIENT, Patience, Watch
from holo_lite.ranks.wires import Seat, join_store

KIND = "device"  # of the first rank, and so of all: cards or processors
NAP = 0.02  # seconds between two looks
COMING = 600.0  # seconds until the last rank has come


@dataclass(frozen=True)
class Presence:
    """What a rank says of itself: its device and card, its machine, and whether it could use NCCL.

    `facts` are what a plan needs of it, as JSON.
    """

    device: str
    card: str
    host: str
    nccl: bool
    facts: Mapping[str, Any]

    @classmethod
    def here(cls, device: torch.device, facts: Mapping[str, Any]) -> Presence:
        """This rank's."""
        cuda = device.type == "cuda"
        card = str(torch.cuda.get_device_properties(device).uuid) if cuda else ""
        return cls(str(device), card, platform.node(), cuda and has_nccl(), facts)


@dataclass(frozen=True)
class Formed:
    """A team, what each of its ranks says of itself, and why they send as they do."""

    team: Team
    present: tuple[Presence, ...]
    why: str


def form(
    seat: Seat,
    device: torch.device,
    facts: Mapping[str, Any],
    ranks: Ranks | None = None,
    patience: Patience = PATIENT,
) -> Formed:
    """Come together with the others; `ranks` are those that this process has started.

    Raises `RanksError` where one does not come.
    """
    store = join_store(seat) if ranks is None else ranks.store
    look: Callable[[], None] = ranks.check if ranks is not None else _nobody
    try:
        if seat.rank == LEAD:
            store.set(KIND, device.type)
        present = _present(store, seat, Presence.here(device, facts), look)
        names = _names(present)
        watch = Watch(join_store(_guest(seat)), seat.rank, names, patience)
        watch.start()
        transport, why = _transport(store, seat, device, present, watch)
    except (Parted, RuntimeError) as error:
        raise RanksError(f"the ranks do not come together: {error}") from error
    loopback = seat.address == LOOPBACK
    return Formed(Team(store, seat.rank, names, device, transport, watch, look, loopback), present, why)


def kind_of_device(seat: Seat) -> str:
    """What the first rank computes on, cuda or cpu. Raises `RanksError` where it does not come."""
    try:
        return join_store(seat).get(KIND).decode()
    except RuntimeError as error:
        raise RanksError("the first rank does not come; start it with the same torchrun") from error


def _nobody() -> None:
    """Nobody was started here."""


def _guest(seat: Seat) -> Seat:
    """The same seat, of one who does not host the store."""
    return Seat(**{**asdict(seat), "hosts": False})


def _present(store: Store, seat: Seat, mine: Presence, look: Callable[[], None]) -> tuple[Presence, ...]:
    store.set(f"present/{seat.rank}", json.dumps(asdict(mine)))
    keys = [f"present/{rank}" for rank in range(seat.size)]
    end = time.monotonic() + COMING
    while not store.check(keys):
        look()
        if time.monotonic() > end:
            missing = [str(rank) for rank, key in enumerate(keys) if not store.check([key])]
            raise Parted(f"rank {', '.join(missing)} did not come in {COMING:g} s")
        time.sleep(NAP)
    return tuple(Presence(**json.loads(store.get(key))) for key in keys)


def _names(present: Sequence[Presence]) -> list[str]:
    """Every rank for a person: with its machine where there are several."""
    several = len({each.host for each in present}) > 1
    devices = [f"{each.device} of {each.host}" if several else each.device for each in present]
    return [name_of(rank, devices) for rank in range(len(present))]


def _transport(
    store: Store, seat: Seat, device: torch.device, present: Sequence[Presence], watch: Watch
) -> tuple[Transport, str]:
    """What all take, and why."""
    cards = [(each.host, each.card) for each in present]
    if not all(card for _, card in cards):
        return "gloo", "gloo: not every rank has a card"
    if len(set(cards)) < len(cards):
        return "gloo", "gloo: two ranks share a card"
    if not all(each.nccl for each in present):
        return "gloo", "gloo: PyTorch has no NCCL here"
    place = Place(store, seat.rank, device, "nccl", watch.check)
    try:
        group = Group(place, "trial", range(seat.size))
        group.add(torch.ones(1, device=device))
        torch.cuda.synchronize(device)
        word = ""
    except Parted as error:
        word = str(error)
    store.set(f"trial/{seat.rank}", json.dumps(word))
    words = [json.loads(store.get(f"trial/{rank}")) for rank in range(seat.size)]
    refused = next(filter(None, words), "")
    return ("gloo", f"gloo: NCCL refuses ({refused})") if refused else ("nccl", "NCCL, from card to card")
