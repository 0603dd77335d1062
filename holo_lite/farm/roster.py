"""The cards of a farm: which are used, which no more, and which come back after their process died."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from holo_lite.farm.clips import Clip
from holo_lite.farm.cluster import Cluster, Place

LOOKED_FOR = 5.0  # seconds between two looks for new machines, and before a card is tried again
OPENING = 120.0  # seconds after which no clip waits for a card that is not open yet, while others are
NOBODY = 60.0  # seconds without any card, after which the farm gives up
COMING = ("waiting", "opening")  # for the card, and for the model on it
MOST_DEATHS = 3  # of a card's processes, one after the other, without a finished clip between them


@dataclass
class UsedCard:
    """A card with a process of ours on it."""

    name: str
    place: Place
    since: float
    state: Literal["waiting", "opening", "looking", "idle", "making"] = "waiting"
    clip: Clip | None = None


@dataclass
class Roster:
    """All cards; `now` is the clock."""

    cluster: Cluster
    now: Callable[[], float]
    cards: dict[str, UsedCard] = field(default_factory=dict)
    closed: dict[Place, str] = field(default_factory=dict)  # not used any more, and why
    _deaths: dict[Place, int] = field(default_factory=dict)
    _after: dict[Place, float] = field(default_factory=dict)
    _looked: float | None = None
    _last: float | None = None  # when a card was last there

    @property
    def opened(self) -> list[UsedCard]:
        """Those that have the model open."""
        return [card for card in self.cards.values() if card.state not in COMING]

    @property
    def idle(self) -> list[UsedCard]:
        """Those that could make something now."""
        return [card for card in self.cards.values() if card.state == "idle"]

    @property
    def is_complete(self) -> bool:
        """Whether no more cards are to be waited for, by a clip that none of the open ones can make."""
        now, waiting = self.now(), [place for place in self._after if place not in self.closed]
        opening = [card for card in self.cards.values() if card.state in COMING and now - card.since < OPENING]
        return not waiting and not opening and all(card.state != "looking" for card in self.cards.values())

    @property
    def is_nobody_left(self) -> bool:
        """Whether there has been no card for so long that none will come."""
        if self.cards:
            return False
        alone = 0.0 if self._last is None else self.now() - self._last
        return bool(self.closed and not self._after) or alone >= NOBODY

    def has_waited(self, seconds: float) -> bool:
        """Whether every card is somebody else's, and has been for so long."""
        cards = self.cards.values()
        return bool(cards) and all(card.state == "waiting" and self.now() - card.since > seconds for card in cards)

    def opening(self) -> Iterator[UsedCard]:
        """Start a process on every card that is new, or due again."""
        now = self.now()
        self._last = now if self.cards or self._last is None else self._last
        if self._looked is not None and now - self._looked < LOOKED_FOR:
            return
        self._looked = now
        used, places = {card.place for card in self.cards.values()}, self.cluster.places()
        self._after = {place: due for place, due in self._after.items() if due > now or place in places}
        for place in places:
            if place not in used and place not in self.closed and self._after.get(place, now) <= now:
                self._after.pop(place, None)
                name = self.cluster.start(place)
                self.cards[name] = UsedCard(name, place, now)
                yield self.cards[name]

    def close(self, card: UsedCard, why: str) -> None:
        """Use a card no more."""
        self.cluster.stop(card.name)
        self.cards.pop(card.name)
        self.closed[card.place] = why

    def bury(self, card: UsedCard, why: str) -> bool:
        """The process on a card died. Returns whether the card is tried again."""
        self.cluster.stop(card.name)
        self.cards.pop(card.name)
        self._deaths[card.place] = self._deaths.get(card.place, 0) + 1
        if self._deaths[card.place] >= MOST_DEATHS:
            self.closed[card.place] = why
            return False
        self._after[card.place] = self.now() + LOOKED_FOR
        return True

    def well(self, card: UsedCard) -> None:
        """A card has finished a clip."""
        self._deaths.pop(card.place, None)
