"""Who makes which clip: one table for all who use a cluster, so that no clip is made twice at once.

A claim holds as long as its card's process lives. Nothing runs out by the clock, so a slow machine loses nothing,
and what a dead one held is free as soon as the cluster knows that it is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection


class Claims:
    """`living` gives the names of the cards whose processes live."""

    def __init__(self, living: Callable[[], Collection[str]]) -> None:
        self._living = living
        self._cards: dict[str, str] = {}

    def claim(self, clip: str, card: str) -> bool:
        """Take a clip for a card, unless another living one has it."""
        holder = self._cards.get(clip, card)
        if holder != card and holder in self._living():
            return False
        self._cards[clip] = card
        return True

    def release(self, clip: str, card: str) -> None:
        """Give a clip back; nothing happens where another card has it by now."""
        if self._cards.get(clip) == card:
            del self._cards[clip]
