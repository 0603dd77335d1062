"""The clips of a farm, and which is made next: the longest first, each on a card where its plan fits.

The longest first leaves short ones for the end, where they fill what is left of every card's time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from holo_lite.farm.events import Record
from holo_lite.jobs.items import BatchItem

# What one card cannot do and another may: these are no failure of the clip while another card is left.
OF_A_CARD = frozenset({"FitError", "RoomError", "RunError", "CheckpointError"})
MOST_LOSSES = 3  # processes that die over a clip, one after the other, without a step between them


@dataclass
class Clip:
    """A clip to make. order: as `holo_lite.worker.order` has it.

    work: operations, by the plan; refused: why a card cannot make it, by the card's name; saved: steps that are
    known to be saved; lost: processes that died over it since a step was saved; after: not before this time.
    """

    item: BatchItem
    order: Record
    state: Literal["waiting", "making", "ended"] = "waiting"
    work: float = 0.0
    number: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    saved: int = 0
    is_saved: bool = True
    lost: int = 0
    after: float = 0.0
    began: float | None = None

    @property
    def key(self) -> str:
        """What it is claimed by: the same for everybody who would write this video."""
        return os.path.realpath(self.item.video)

    def hear(self, record: Record) -> None:
        """Take from a record of its run how far it is saved."""
        if record["kind"] == "not_saved":
            self.is_saved, self.saved = False, record["saved"]
        elif record["kind"] in {"step", "going_on"} and self.is_saved and record["done"] > self.saved:
            self.saved, self.lost = record["done"], 0

    def lose(self) -> bool:
        """The process that made it died. Returns whether it may be tried again."""
        self.lost += 1
        self.is_saved = True
        return self.lost < MOST_LOSSES


@dataclass
class Clips:
    """All of them, in the order given."""

    all: Sequence[Clip]
    begun: int = 0

    @property
    def left(self) -> list[Clip]:
        """Those that are not ended."""
        return [clip for clip in self.all if clip.state != "ended"]

    @property
    def waiting(self) -> list[Clip]:
        """Those that somebody must make."""
        return [clip for clip in self.all if clip.state == "waiting"]

    @property
    def total(self) -> int:
        """How many are made in all."""
        return self.begun + sum(clip.number == 0 for clip in self.left)

    def ahead(self, card: str, now: float) -> Iterator[Clip]:
        """What a card may make now, what is to be made first before the others."""
        found = [clip for clip in self.waiting if card not in clip.refused and clip.after <= now]
        yield from sorted(found, key=lambda clip: -clip.work)

    def begin(self, clip: Clip, now: float) -> None:
        """A clip is begun, or goes on."""
        clip.state = "making"
        if not clip.number:
            self.begun += 1
            clip.number, clip.began = self.begun, now
