"""What the gate of directing may be asked for: which way of directing, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from holo_lite.errors import SettingsError

Kind = Literal["retake", "extend", "reference", "first frame"]
MOST_CHAINED = 10
MOST_PICTURES = 2  # of a character: a close-up, and a medium shot


@dataclass(frozen=True)
class Directing:
    """What becomes of each storyboard.

    chain: how many continuations in a row; each has three new shots. pictures: how many of each character are given
    as references. alone: the same with nothing given is not made to compare with. Raises `SettingsError` for
    another number of continuations or pictures.
    """

    kind: Kind
    chain: int = 1
    pictures: int = MOST_PICTURES
    alone: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.chain <= MOST_CHAINED:
            raise SettingsError(f"--chain {self.chain}: give a number from 1 to {MOST_CHAINED}")
        if not 1 <= self.pictures <= MOST_PICTURES:
            raise SettingsError(f"--pictures {self.pictures}: give 1 or {MOST_PICTURES}")

    @property
    def name(self) -> str:
        """It in a word or two: what a score of it is listed under."""
        if self.kind != "reference":
            return self.kind
        return "reference, 1 picture" if self.pictures == 1 else f"reference, {self.pictures} pictures"
