"""What several ranks that compute one clip decide and gather in a step; alone there is nothing to ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Meeting(Protocol):
    """Every rank calls the same in the same order."""

    def branches(self, count: int) -> Sequence[int]:
        """Which of so many guidance branches are computed here."""

    def agreed(self, word: bool) -> bool:
        """One word for all: on another card a sum may come out otherwise, and a decision with it."""

    def velocities(self, found: Sequence[Tensor], count: int, like: Tensor) -> list[Tensor]:
        """Every branch's velocity of the whole clip, from those found here, which are zero where others compute."""


class Alone:
    """One rank computes everything."""

    def branches(self, count: int) -> Sequence[int]:
        """All of them."""
        return range(count)

    def agreed(self, word: bool) -> bool:
        """The word itself."""
        return word

    def velocities(self, found: Sequence[Tensor], _count: int, _like: Tensor) -> list[Tensor]:
        """Those found."""
        return list(found)
