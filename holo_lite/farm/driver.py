"""The farm: gives clips to cards, hears how far they are, and gives a clip to another card when one dies.

    driver ─ open, look, make ─► card     one process a card, wherever the machine is
           ◄─ records ────────            events as JSON, the last says how it ended

A clip is claimed before it is made, so that two drivers never make it at once. It lives in its folder on the shared
disk: whichever card takes it next goes on from the last saved step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from holo_lite.errors import FarmError
from holo_lite.farm.clips import OF_A_CARD, Clip, Clips
from holo_lite.farm.cluster import Cluster, Told
from holo_lite.farm.events import (
    CardLost,
    CardOpened,
    CardRefused,
    ClipBegun,
    ClipTold,
    FarmEvent,
    MadeElsewhere,
    NoCardYet,
    Record,
)
from holo_lite.farm.roster import Roster, UsedCard
from holo_lite.jobs.items import ItemEnded

TURN = 1.0  # seconds for which the driver waits for news before it looks around
ELSEWHERE = 2.0  # seconds after which a clip that somebody else makes is asked for again
TAKEN = 10.0  # seconds after which it is told that all cards are taken
AHEAD = 8  # clips for each card, whose prompts a card reads while it has the text encoder open
PATIENCE = 30.0  # seconds in which cards that are asked to stop end their block

FarmEvents = Generator[FarmEvent, None, None]


@dataclass
class Farm:
    """Clips on their way. opening: what each card is asked first; now: the clock."""

    cluster: Cluster
    clips: Clips
    opening: Record
    now: Callable[[], float] = time.monotonic
    roster: Roster = field(init=False)
    _asked: dict[str, list[Clip]] = field(default_factory=dict, init=False)  # what each card looks at
    _has_told: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.roster = Roster(self.cluster, self.now)

    def run(self) -> FarmEvents:
        """Make all clips; each ends with its `ItemEnded`. Close it to stop: no finished step is lost.

        Raises `FarmError` when no card can be used, or none is left.
        """
        try:
            while self.clips.left:
                yield from self._turn()
        finally:
            self._stop()

    def _turn(self) -> Iterator[FarmEvent]:
        for card in self.roster.opening():
            self.cluster.ask(card.name, {**self.opening, "cards": card.place.cards})
        yield from self._assign()
        for told in self.cluster.told(TURN):
            if told.card in self.roster.cards:
                yield from self._hear(self.roster.cards[told.card], told)
        yield from self._give_up()

    def _assign(self) -> Iterator[FarmEvent]:
        for card in self.roster.idle:
            for clip in self.clips.ahead(card.name, self.now()):
                if self.cluster.claim(clip.key, card.name):
                    yield self._begin(card, clip)
                    break
                if clip.after == 0.0 and not clip.lost:
                    yield MadeElsewhere(clip.item)
                clip.after = self.now() + ELSEWHERE

    def _begin(self, card: UsedCard, clip: Clip) -> FarmEvent:
        self.clips.begin(clip, self.now())
        card.state, card.clip = "making", clip
        lost, next_ones = clip.lost > 0 or clip.saved > 0, self.clips.ahead(card.name, self.now())
        ahead = [each.order for each in islice(next_ones, AHEAD * len(self.roster.opened))]
        request = {"do": "make", "order": clip.order, "saved": clip.saved, "lost": lost, "ahead": ahead}
        self.cluster.ask(card.name, request)
        rest = sum(each.work for each in self.clips.waiting)
        return ClipBegun(clip.item, card.place.name, clip.number, self.clips.total, clip.work, rest)

    def _hear(self, card: UsedCard, told: Told) -> Iterator[FarmEvent]:
        record = told.record
        if record is None:
            yield from self._lost(card, told.why)
        elif record["kind"] == "started":
            card.state = "opening"
        elif record["kind"] == "opened":
            yield from self._opened(card, record)
        elif record["kind"] == "closed":
            self.roster.close(card, record["why"])
            yield CardRefused(card.place.name, record["why"])
        elif record["kind"] == "looked":
            yield from self._looked(card, record["found"])
        elif record["kind"] == "ended":
            yield from self._made(card, record)
        elif card.clip is not None:
            card.clip.hear(record)
            yield ClipTold(card.clip.item, card.place.name, record)

    def _opened(self, card: UsedCard, record: Record) -> Iterator[FarmEvent]:
        """A card is open: it looks at all that is left, what others make just now too."""
        card.state = "looking"
        self.cluster.ask(card.name, {"do": "look", "orders": [clip.order for clip in self.clips.left]})
        self._asked[card.name] = self.clips.left
        yield CardOpened(card.place.name, record["card"])

    def _looked(self, card: UsedCard, found: Sequence[Record]) -> Iterator[FarmEvent]:
        card.state = "idle"
        for clip, record in zip(self._asked.pop(card.name), found, strict=True):
            if record["state"] == "make":
                clip.work = max(clip.work, record["work"])
            elif clip.state == "waiting":
                yield from self._ended(card, clip, record)

    def _made(self, card: UsedCard, record: Record) -> Iterator[FarmEvent]:
        clip, card.clip, card.state = card.clip, None, "idle"
        assert clip is not None, "it was making something"
        clip.state = "waiting"
        self.cluster.release(clip.key, card.name)
        if record["state"] == "done":
            self.roster.well(card)
        if record["state"] != "cancelled":
            yield from self._ended(card, clip, record)

    def _ended(self, card: UsedCard, clip: Clip, record: Record) -> Iterator[FarmEvent]:
        """A clip is there, or cannot be made: by this card, or at all."""
        if record["state"] == "failed" and record["error"] in OF_A_CARD:
            clip.refused[card.name] = record["why"]
            return
        clip.state = "ended"
        seconds = self.now() - clip.began if clip.began is not None and record["state"] == "done" else 0.0
        yield ItemEnded(clip.item, record["state"], record.get("why", ""), seconds)

    def _lost(self, card: UsedCard, why: str) -> Iterator[FarmEvent]:
        again = self.roster.bury(card, why)
        self._asked.pop(card.name, None)
        clip = card.clip
        yield CardLost(card.place.name, why, clip.item if clip else None, clip.saved if clip else 0)
        if not again:
            yield CardRefused(card.place.name, f"its process died again and again ({why})")
        if clip is None:
            return
        clip.state = "waiting"  # its claim ends when the cluster knows that the process is dead
        if not clip.lose():
            clip.state = "ended"
            yield ItemEnded(clip.item, "failed", f"{clip.item.video}: every process that made it died ({why})")

    def _give_up(self) -> Iterator[FarmEvent]:
        """End what no card can make; say so where none is free; and raise where none will ever be."""
        opened = self.roster.opened
        if self.roster.is_nobody_left:
            raise FarmError(self._nobody())
        if not self._has_told and self.roster.has_waited(TAKEN):
            self._has_told = True
            yield NoCardYet(len(self.roster.cards))
        if opened and self.roster.is_complete:
            for clip in self.clips.waiting:
                if all(card.name in clip.refused for card in opened):
                    clip.state = "ended"
                    yield ItemEnded(clip.item, "failed", clip.refused[opened[-1].name])

    def _nobody(self) -> str:
        found = [f"{place.name}: {why}" for place, why in self.roster.closed.items()]
        return (
            f"no card of the cluster can be used: {found[0]}"
            if found
            else ("no machine of the cluster has a card for us; see what `ray status` says")
        )

    def _stop(self) -> None:
        """Have all cards end their block, and let them go."""
        making = {card.name for card in self.roster.cards.values() if card.state == "making"}
        for name in making:
            self.cluster.cancel(name)
        end = self.now() + PATIENCE
        while making and self.now() < end:
            making -= {each.card for each in self.cluster.told(TURN) if _is_last(each)}
        for name in list(self.roster.cards):
            self.cluster.stop(name)
        self.roster.cards.clear()


def _is_last(told: Told) -> bool:
    return told.record is None or told.record["kind"] == "ended"
