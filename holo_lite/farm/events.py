"""What happens on a farm, for whoever shows it; each clip's own events come as the records of docs/events.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holo_lite.jobs.items import BatchItem, ItemEnded

Record = Mapping[str, Any]  # what goes between the processes: what JSON can hold, and nothing else


@dataclass(frozen=True)
class CardOpened:
    """A card is ready: its process has the model open. `place` is its name for people, `card` what it is."""

    place: str
    card: str


@dataclass(frozen=True)
class CardRefused:
    """A card is not used, and why."""

    place: str
    why: str


@dataclass(frozen=True)
class CardLost:
    """The process on a card, or its machine, died; `item` was being made, with so many steps `saved`."""

    place: str
    why: str
    item: BatchItem | None = None
    saved: int = 0


@dataclass(frozen=True)
class NoCardYet:
    """All cards that there are, so many, are taken by others; the farm waits."""

    cards: int


@dataclass(frozen=True)
class MadeElsewhere:
    """Somebody else is making a clip, with the same cluster; what comes of it will be looked at."""

    item: BatchItem


@dataclass(frozen=True)
class ClipBegun:
    """A clip is begun on a card, or goes on there: the `number`-th of `total`.

    `work` are operations by its plan, `rest` those of all clips that no card has begun.
    """

    item: BatchItem
    place: str
    number: int
    total: int
    work: float
    rest: float


@dataclass(frozen=True)
class ClipTold:
    """An event of a clip, as a record."""

    item: BatchItem
    place: str
    record: Record = field(repr=False)


FarmEvent = CardOpened | CardRefused | CardLost | NoCardYet | MadeElsewhere | ClipBegun | ClipTold | ItemEnded
