"""One card of a farm, without a cluster: what it is asked, what it answers, and what it waits for."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from farming import write_boards

from holo_lite.farm import card as module, shared
from holo_lite.farm.card import Card
from holo_lite.farm.orders import Wanted, clips_of, opening_request
from holo_lite.farm.shared import note_in
from holo_lite.jobs.batch import find_items
from holo_lite.runs.folder import RunFolder
from holo_lite.settings import Options
from holo_lite.worker.order import ORDER, Opening

SAID = Options(height=16, width=16, steps=3, cfg=1.0, frames=9)


@pytest.fixture
def boards(tmp_path):
    return write_boards(tmp_path / "boards", "ab")


@pytest.fixture
def clips(boards, tmp_path):
    return clips_of(find_items([boards], tmp_path / "films"), Wanted(None, Opening(device="cpu"), SAID))


@pytest.fixture
def no_patience(monkeypatch):
    monkeypatch.setattr(shared, "PATIENCE", 0.0)


def answers(card, **request):
    return [json.loads(text) for text in card.answer(json.dumps(request))]


def making(clip, *, saved=0, lost=False):
    return {"do": "make", "order": clip.order, "saved": saved, "lost": lost}


def stopped_after(card, clip, step):
    """Make a clip and have it end after a step, as a driver does."""
    for text in card.answer(json.dumps(making(clip))):
        record = json.loads(text)
        if record["kind"] == "step" and record["done"] == step:
            card.cancel()
    return record


def test_a_card_opens_looks_and_makes(clips, tmp_path):
    card = Card()
    with note_in(tmp_path / "films") as note:
        (opened,) = answers(card, **opening_request(clips, note), cards=1)
    assert opened["kind"] == "opened"
    assert list((tmp_path / "films").iterdir()) == [], "the note goes"
    (looked,) = answers(card, do="look", orders=[clip.order for clip in clips.all])
    first, second, none = looked["found"]
    assert (first["state"], second["state"], none["state"]) == ("make", "make", "failed")
    assert first["work"] > 0
    assert none["error"] == "StoryboardError"
    records = answers(card, **making(clips.all[0]))
    assert records[-1] == {"kind": "ended", "state": "done"}
    assert [record["done"] for record in records if record["kind"] == "step"] == [1, 2, 3]
    assert answers(card, **making(clips.all[0]))[-1]["state"] == "there"


def test_a_longer_clip_is_more_work(boards, tmp_path):
    items, works = find_items([boards / "a.txt"], tmp_path), []
    for said in (SAID, replace(SAID, frames=33)):
        (clip,) = clips_of(items, Wanted(None, Opening(device="cpu"), said)).all
        (looked,) = answers(Card(), do="look", orders=[clip.order])
        works.append(looked["found"][0]["work"])
    assert works[0] < works[1]


def test_cards_of_one_machine_plan_with_a_part_of_its_main_memory_each(clips, tmp_path):
    rooms = []
    for cards in (1, 4):
        card = Card()
        with note_in(tmp_path / "films") as note:
            answers(card, **opening_request(clips, note), cards=cards)
        machine = card._opened(ORDER.of_table(clips.all[0].order)).choice.machine
        rooms.append((machine.ram, machine.ram_free))
    (ram, free), (part, free_part) = rooms
    assert part == ram // 4
    assert free_part < free / 2, "what is free may change between two looks"


UNFIT: dict[str, dict] = {
    "it has holo-lite": {"version": "0.0.1"},
    "it does not see /nowhere;": {"note": {"path": "/nowhere/note", "text": "x"}},
    "it does not see /nowhere/a.txt;": {"sources": ["/nowhere/a.txt"]},
    "/nowhere: ": {},
}


@pytest.mark.parametrize("why", UNFIT)
@pytest.mark.usefixtures("no_patience")
def test_a_machine_that_cannot_take_part_says_why(clips, tmp_path, why):
    with note_in(tmp_path / "films") as note:
        request = {**opening_request(clips, note), "cards": 1, **UNFIT[why]}
        if not UNFIT[why]:
            request["order"] = {**request["order"], "model": "/nowhere"}
        (closed,) = answers(Card(), **request)
    assert closed["kind"] == "closed"
    assert closed["why"].startswith(why)


@pytest.mark.usefixtures("no_patience")
def test_another_folder_under_the_same_name_is_not_taken_for_the_shared_one(tmp_path):
    with note_in(tmp_path) as note:
        assert note.is_seen()
        Path(note.path).write_text("of another machine")
        assert not note.is_seen()


def test_cancelled_it_ends_and_its_steps_are_waited_for_where_a_disk_shows_them_late(clips, monkeypatch):
    clip = clips.all[0]
    assert stopped_after(Card(), clip, 2) == {"kind": "ended", "state": "cancelled"}
    folder = RunFolder.beside(Path(clip.order["out"]))
    hidden = folder.path.rename(folder.path.with_name("not seen yet"))
    card = Card()
    waited = []

    def shown(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            hidden.rename(folder.path)

    monkeypatch.setattr(card._cancel, "wait", shown)
    records = answers(card, **making(clip, saved=2, lost=True))
    assert [record["done"] for record in records if record["kind"] == "going_on"] == [2]
    assert [record["done"] for record in records if record["kind"] == "step"] == [3]
    assert len(waited) == 3


def test_a_lock_that_a_dead_machine_left_is_waited_for(clips, monkeypatch):
    clip = clips.all[0]
    stopped_after(Card(), clip, 2)
    folder, let_go, waited = RunFolder.beside(Path(clip.order["out"])), threading.Event(), []
    held = threading.Event()

    def hold():
        with folder.held():
            held.set()
            let_go.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    card = Card()

    def released(seconds):
        waited.append(seconds)
        let_go.set()
        holder.join()

    monkeypatch.setattr(card._cancel, "wait", released)
    records = answers(card, **making(clip, saved=2, lost=True))
    assert records[-1]["state"] == "done"
    assert waited == [1.0]


def test_steps_that_never_come_are_made_again(clips, monkeypatch):
    monkeypatch.setattr(module, "LATE", 2)
    card = Card()
    monkeypatch.setattr(card._cancel, "wait", lambda _: None)
    records = answers(card, **making(clips.all[0], saved=2, lost=True))
    assert [record["done"] for record in records if record["kind"] == "step"] == [1, 2, 3]
