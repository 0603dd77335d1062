"""The farm's driver over machines that a test lets die: every clip ends once, none is made twice at once."""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from holo_lite.errors import FarmError
from holo_lite.farm.claims import Claims
from holo_lite.farm.clips import MOST_LOSSES, Clip, Clips
from holo_lite.farm.cluster import Place, Told
from holo_lite.farm.driver import AHEAD, Farm
from holo_lite.farm.events import CardLost, CardOpened, CardRefused, ClipBegun, ClipTold, MadeElsewhere, NoCardYet
from holo_lite.farm.roster import MOST_DEATHS
from holo_lite.jobs.items import BatchItem, ItemEnded

STEPS = 4
OPENING = {"do": "open"}


@dataclass
class Disk:
    """What all machines share: saved steps and videos, by clip; and who is at work on what."""

    saved: dict = field(default_factory=dict)
    videos: set = field(default_factory=set)
    at_work: dict = field(default_factory=dict)
    steps: list = field(default_factory=list)  # every step that was computed


class Machines:
    """A cluster in this process. Every turn each card that was asked does one thing, or dies, as `dies` says."""

    def __init__(self, places, disk=None, claims=None, room=None, dies=lambda *_: False):
        self._places = [Place(name, 0, name) for name in places]
        self.disk = Disk() if disk is None else disk
        self.living, self._numbers = set(), itertools.count(1)
        self.claims = claims or Claims(lambda: self.living)
        self.room = room or {}  # the largest clip for which a place has memory
        self.dies, self.turn, self.time = dies, 0, 0.0
        self.asked, self.cancelled, self.at = {}, set(), {}

    def now(self):
        return self.time

    def places(self):
        return self._places

    def start(self, place):
        name = f"{id(self)}-{next(self._numbers)}"
        self.living.add(name)
        self.at[name] = place.name
        return name

    def ask(self, card, request):
        json.dumps(request)  # plain records alone
        self.asked[card] = self.answers(card, request)

    def told(self, seconds):
        self.turn, self.time = self.turn + 1, self.time + seconds
        found = [self.one(card) for card in list(self.asked) if card in self.living]
        return [told for told in found if told is not None]

    def one(self, card):
        if self.dies(card, self.turn):
            self.kill(card)
            return Told(card, None, "the power went off")
        record = next(self.asked[card], None)
        if record is None:
            del self.asked[card]
            return None
        return Told(card, record)

    def kill(self, card):
        self.living.discard(card)
        self.asked.pop(card, None)
        self.disk.at_work = {clip: by for clip, by in self.disk.at_work.items() if by != card}

    def stop(self, card):
        self.kill(card)

    def cancel(self, card):
        self.cancelled.add(card)

    def claim(self, clip, card):
        return self.claims.claim(clip, card)

    def release(self, clip, card):
        self.claims.release(clip, card)

    def answers(self, card, request):
        do = {"open": self.opened, "look": self.looked, "make": self.made}[request["do"]]
        return do(card, request)

    def opened(self, *_):
        yield {"kind": "opened", "card": "a card"}

    def looked(self, card, request):
        yield {"kind": "looked", "found": [self.found(card, order) for order in request["orders"]]}

    def found(self, card, order):
        if order["out"] in self.disk.videos:
            return {"state": "there", "why": "exists"}
        if order["work"] > self.room.get(self.at[card], 1e9):
            return {"state": "failed", "why": "too long for this card", "error": "FitError"}
        if order["work"] < 0:
            return {"state": "failed", "why": "no shots", "error": "StoryboardError"}
        return {"state": "make", "work": order["work"]}

    def made(self, card, request):
        order, disk = request["order"], self.disk
        clip = order["out"]
        found = self.found(card, order)
        if found["state"] != "make":
            yield {"kind": "ended", **found}
            return
        assert clip not in disk.at_work, f"{clip} is made twice at once"
        disk.at_work[clip] = card
        saved = disk.saved.get(clip, 0)
        assert saved >= request["saved"]
        for step in range(saved + 1, STEPS + 1):
            if card in self.cancelled:
                yield {"kind": "ended", "state": "cancelled"}
                return
            disk.saved[clip] = step
            disk.steps.append((clip, step))
            yield {"kind": "step", "done": step, "total": STEPS}
        disk.videos.add(clip)
        del disk.at_work[clip]
        yield {"kind": "ended", "state": "done"}


def clips_of(*works):
    items = [BatchItem(Path(f"{number}.toml"), Path(f"/films/{number}.mp4")) for number in range(len(works))]
    orders = [{"out": str(item.video), "work": work} for item, work in zip(items, works, strict=True)]
    return Clips(list(map(Clip, items, orders)))


def farm_of(machines, *works):
    return Farm(machines, clips_of(*works), OPENING, now=machines.now)


def ended(events):
    return {event.item.video.stem: event.state for event in events if isinstance(event, ItemEnded)}


def begun(events):
    return [(event.item.video.stem, event.place) for event in events if isinstance(event, ClipBegun)]


def test_a_card_is_told_what_comes_next_so_that_prompts_are_read_together(monkeypatch):
    asked, machines = [], Machines("a")
    plain = machines.ask
    monkeypatch.setattr(machines, "ask", lambda card, request: asked.append(request) or plain(card, request))
    list(farm_of(machines, 1.0, 5.0, *([2.0] * AHEAD)).run())
    first, *_, last = [request for request in asked if request["do"] == "make"]
    assert (first["order"]["work"], [order["work"] for order in first["ahead"]]) == (5.0, [2.0] * AHEAD)
    assert (last["order"]["work"], last["ahead"]) == (1.0, [])


def test_the_longest_is_made_first_and_every_card_has_one():
    machines = Machines("ab")
    events = list(farm_of(machines, 1.0, 5.0, 3.0, 2.0).run())
    assert [stem for stem, _ in begun(events)] == ["1", "2", "3", "0"]
    assert {place for _, place in begun(events)[:2]} == {"a", "b"}
    assert set(ended(events).values()) == {"done"}
    assert not machines.living, "cards are let go"


def test_a_clip_is_made_on_a_card_where_its_plan_fits():
    machines = Machines("ab", room={"a": 2.0})
    events = list(farm_of(machines, 9.0, 8.0, 1.0).run())
    assert {place for stem, place in begun(events) if stem in "01"} == {"b"}
    assert ("2", "a") in begun(events)
    assert set(ended(events).values()) == {"done"}


def test_what_fits_no_card_fails_and_the_rest_is_made():
    machines = Machines("ab", room={"a": 2.0, "b": 3.0})
    events = list(farm_of(machines, 9.0, 1.0, -1.0).run())
    assert ended(events) == {"0": "failed", "1": "done", "2": "failed"}
    assert {event.why for event in events if isinstance(event, ItemEnded) and event.state == "failed"} == {
        "too long for this card",
        "no shots",
    }


def test_what_is_there_is_left_alone():
    machines = Machines("a", disk=Disk(videos={"/films/0.mp4"}))
    events = list(farm_of(machines, 1.0, 1.0).run())
    assert ended(events) == {"0": "there", "1": "done"}
    assert begun(events) == [("1", "a")]
    assert [event.total for event in events if isinstance(event, ClipBegun)] == [1]


def test_a_clip_goes_on_elsewhere_from_its_last_saved_step():
    first = []

    def dies(card, turn):
        first.append(card) if not first and turn >= 5 else None
        return card in first

    machines = Machines("ab", dies=dies)
    events = list(farm_of(machines, 5.0, 4.0).run())
    assert ended(events) == {"0": "done", "1": "done"}
    lost = next(event for event in events if isinstance(event, CardLost))
    assert lost.saved > 0
    assert lost.why == "the power went off"
    assert len(machines.disk.steps) == len(set(machines.disk.steps)) == 2 * STEPS, "no saved step is made again"


class OutOfReach(Machines):
    """The first card that makes something is out of reach from the fifth turn on; it dies at the fortieth."""

    cut = None

    def told(self, seconds):
        if self.turn == 40:
            super().kill(self.cut)
        return super().told(seconds)

    def one(self, card):
        if self.turn == 5 and self.cut is None:
            self.cut = card
            return Told(card, None, "out of reach")
        return super().one(card)

    def kill(self, card):
        if card == self.cut and self.turn < 40:
            self.asked.pop(card, None)  # the order to end does not come through
        else:
            super().kill(card)


def test_while_a_machine_is_only_out_of_reach_nobody_else_takes_its_clip():
    machines = OutOfReach("ab")
    events = list(farm_of(machines, 5.0, 4.0).run())
    assert ended(events) == {"0": "done", "1": "done"}, "and it is taken once it is dead"
    assert sum(isinstance(event, CardLost) for event in events) == 1
    assert machines.turn > 40
    assert not any(isinstance(event, MadeElsewhere) for event in events), "it is ours"


def test_a_clip_over_which_every_process_dies_ends_and_takes_no_more_cards_with_it():
    machines = Machines("abcdef")
    poison = "/films/0.mp4"
    machines.dies = lambda card, _: machines.disk.at_work.get(poison) == card
    real = machines.made

    def made(card, request):
        if request["order"]["out"] != poison:
            yield from real(card, request)
            return
        machines.disk.at_work[poison] = card
        while True:
            yield {"kind": "note", "text": "working"}

    machines.made = made
    events = list(farm_of(machines, 5.0, 1.0, 1.0).run())
    assert ended(events) == {"0": "failed", "1": "done", "2": "done"}
    assert sum(isinstance(event, CardLost) for event in events) == MOST_LOSSES


def test_a_card_that_always_dies_is_used_no_more():
    machines = Machines("ab")
    machines.dies = lambda card, _: machines.at[card] == "a"
    events = list(farm_of(machines, *[1.0] * 20).run())
    assert set(ended(events).values()) == {"done"}
    assert sum(isinstance(event, CardLost) for event in events) <= MOST_DEATHS
    assert {place for _, place in begun(events)} == {"b"}


def test_without_a_card_that_can_be_used_the_reason_is_an_error():
    machines = Machines("ab")
    machines.opened = lambda *_: iter([{"kind": "closed", "why": "it has holo-lite 0.1", "error": "RunError"}])
    with pytest.raises(FarmError, match=r"no card of the cluster can be used: a: it has holo-lite 0\.1"):
        list(farm_of(machines, 1.0).run())
    assert not machines.living


def test_without_any_machine_it_does_not_wait_for_ever():
    with pytest.raises(FarmError, match="no machine of the cluster has a card for us"):
        list(farm_of(Machines(""), 1.0).run())


def test_where_all_cards_are_taken_it_says_so_and_waits():
    machines = Machines("a")
    real = machines.one
    machines.one = lambda card: real(card) if machines.turn > 60 else None
    events = list(farm_of(machines, 1.0).run())
    assert [event.cards for event in events if isinstance(event, NoCardYet)] == [1]
    assert ended(events) == {"0": "done"}


def test_a_card_that_opens_slowly_is_not_taken_by_others():
    machines = Machines("a")
    slowly = [{"kind": "started"}, *[{"kind": "note", "text": ""}] * 60, {"kind": "opened", "card": "a card"}]
    machines.opened = lambda *_: iter(slowly)
    events = list(farm_of(machines, 1.0).run())
    assert not any(isinstance(event, NoCardYet) for event in events)
    assert ended(events) == {"0": "done"}


def test_stopped_each_card_ends_its_block_and_is_let_go():
    machines = Machines("ab")
    events = farm_of(machines, 5.0, 4.0, 3.0).run()
    told = 0
    for event in events:
        told += isinstance(event, ClipTold)
        if told == 3:
            break
    working = set(machines.disk.at_work.values())
    events.close()
    assert machines.cancelled == working
    assert not machines.living
    steps = list(machines.disk.steps)
    again = Machines("ab", disk=Disk(saved=dict(machines.disk.saved), steps=steps))
    assert set(ended(farm_of(again, 5.0, 4.0, 3.0).run()).values()) == {"done"}
    assert len(steps) == len(set(steps)) == 3 * STEPS, "no finished step is lost"


def together(*runs):
    """Two drivers at once, an event of each in turn. Returns all events of each."""
    seen, left = [[] for _ in runs], dict(enumerate(runs))
    while left:
        for number, events in list(left.items()):
            event = next(events, None)
            if event is None:
                del left[number]
            else:
                seen[number].append(event)
    return seen


def test_two_drivers_at_once_make_no_clip_twice():
    living = set()
    claims, disk = Claims(lambda: living), Disk()
    one, two = (Machines(place, disk=disk, claims=claims) for place in "ab")
    one.living = two.living = living
    first, second = together(farm_of(one, *[1.0] * 4).run(), farm_of(two, *[1.0] * 4).run())
    made = [stem for events in (first, second) for stem, state in ended(events).items() if state == "done"]
    assert sorted(made) == ["0", "1", "2", "3"]
    assert set(ended(first).values()) | set(ended(second).values()) <= {"done", "there"}
    assert any(isinstance(event, MadeElsewhere) for event in (*first, *second))
    assert len(disk.steps) == 4 * STEPS


def test_a_claim_is_held_by_the_living_alone():
    living = {"one", "two"}
    claims = Claims(lambda: living)
    assert claims.claim("clip", "one")
    assert claims.claim("clip", "one"), "again is no quarrel"
    assert not claims.claim("clip", "two")
    claims.release("clip", "two")
    assert not claims.claim("clip", "two"), "only its holder gives it back"
    living.discard("one")
    assert claims.claim("clip", "two")
    claims.release("clip", "one")
    assert not claims.claim("clip", "three")


@given(
    works=st.lists(st.floats(0.1, 9.0), min_size=1, max_size=6),
    room=st.fixed_dictionaries({place: st.floats(0.5, 10.0) for place in "abc"}),
    deaths=st.sets(st.integers(1, 60), max_size=6),
)
def test_whatever_dies_every_clip_ends_once_and_no_saved_step_is_made_again(works, room, deaths):
    machines = Machines("abc", room=room)
    left = set(deaths)
    machines.dies = lambda _, turn: turn in left and not left.discard(turn)
    events = []
    try:
        events.extend(farm_of(machines, *works).run())
    except FarmError:
        assert len(deaths) >= MOST_DEATHS
        return
    ends = [event.item.video.stem for event in events if isinstance(event, ItemEnded)]
    assert sorted(ends) == sorted(map(str, range(len(works))))
    steps = machines.disk.steps
    assert len(steps) == len(set(steps))
    for number, state in ended(events).items():
        fits = [place for place in "abc" if works[int(number)] <= room[place]]
        closed = {event.place for event in events if isinstance(event, CardRefused)}
        assert (state == "done") == (f"/films/{number}.mp4" in machines.disk.videos)
        assert state == "done" or not set(fits) - closed or len(deaths) >= MOST_LOSSES
    assert not machines.living
    assert all(isinstance(event, CardOpened) for event in events[:1]) or deaths
