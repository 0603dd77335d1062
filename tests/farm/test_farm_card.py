"""One card of a farm, without a cluster: what it is asked, what it answers, and what it waits for."""

import json
import shutil
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
from holo_lite.system.cache_folder import CACHE_VARIABLE
from holo_lite.text.encoder import TextEncoder
from holo_lite.worker.order import ORDER, Opening

SAID = Options(height=16, width=16, steps=2, cfg=1.0, frames=9)


def clips_in(boards, films, options=SAID):
    return clips_of(find_items([boards], films), Wanted(None, Opening(device="cpu"), options))


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    return write_boards(tmp_path_factory.mktemp("farm") / "boards")


@pytest.fixture(scope="module")
def card():
    """It opens the model once for all tests, as for all clips."""
    return Card()


@pytest.fixture
def clips(boards, tmp_path):
    return clips_in(boards, tmp_path / "films")


@pytest.fixture(scope="module")
def ended_early(boards, tmp_path_factory):
    """The films' folder of a card that was told to end after its first step, and its last record."""
    films, card = tmp_path_factory.mktemp("early") / "films", Card()
    for text in card.answer(json.dumps(making(clips_in(boards, films).all[0]))):
        record = json.loads(text)
        if record["kind"] == "step":
            card.cancel()
    return films, record


@pytest.fixture
def begun(ended_early, tmp_path):
    """A clip with one saved step, and the folder of its run."""
    shutil.copytree(ended_early[0], tmp_path / "films")
    return RunFolder.beside(tmp_path / "films" / "a.mp4")


@pytest.fixture
def no_patience(monkeypatch):
    monkeypatch.setattr(shared, "PATIENCE", 0.0)


def answers(card, **request):
    return [json.loads(text) for text in card.answer(json.dumps(request))]


def making(clip, *, saved=0, lost=False):
    return {"do": "make", "order": clip.order, "saved": saved, "lost": lost}


def done(records, kind):
    return [record["done"] for record in records if record["kind"] == kind]


def test_a_card_opens_looks_and_makes(card, clips, tmp_path):
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
    assert done(records, "step") == [1, 2]
    assert answers(card, **making(clips.all[0]))[-1]["state"] == "there"


def test_the_text_encoder_is_opened_once_for_what_comes_next_too(card, clips, tmp_path, monkeypatch):
    """The next clips' prompts are read with the first one's; one that cannot be made spoils nothing."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    opened, plain = [], TextEncoder.open
    monkeypatch.setattr(TextEncoder, "open", lambda *given, **named: opened.append(given) or plain(*given, **named))
    first, second, none = clips.all
    ahead = {"ahead": [none.order, second.order]}
    assert answers(card, **making(first), **ahead)[-1]["state"] == "done"
    assert len(opened) == 1
    assert answers(card, **making(second), ahead=[none.order])[-1]["state"] == "done"
    assert len(opened) == 1


def test_a_longer_clip_is_more_work(card, boards, tmp_path):
    works = []
    for said in (SAID, replace(SAID, frames=33)):
        clip = clips_in(boards, tmp_path, said).all[0]
        (looked,) = answers(card, do="look", orders=[clip.order])
        works.append(looked["found"][0]["work"])
    assert works[0] < works[1]


def test_cards_of_one_machine_plan_with_a_part_of_its_main_memory_each(clips, tmp_path):
    rooms, card = [], Card()
    for cards in (1, 4):
        with note_in(tmp_path / "films") as note:
            answers(card, **opening_request(clips, note), cards=cards)
        machine = card._opened(ORDER.of_table(clips.all[0].order)).choice.machine
        rooms.append((machine.ram, machine.ram_free))
    (ram, free), parts = rooms
    assert parts == (ram // 4, free // 4)


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
        Path(note.path).write_text("of another machine", encoding="utf-8")
        assert not note.is_seen()


def test_told_to_end_it_ends_after_its_step_and_keeps_it(ended_early):
    films, last = ended_early
    assert last == {"kind": "ended", "state": "cancelled"}
    assert RunFolder.beside(films / "a.mp4").has_state


def test_steps_that_a_slow_disk_shows_late_are_waited_for(card, clips, begun, monkeypatch):
    hidden, waited = begun.path.rename(begun.path.with_name("not seen yet")), []

    def shown(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            hidden.rename(begun.path)

    monkeypatch.setattr(card._cancel, "wait", shown)
    records = answers(card, **making(clips.all[0], saved=1, lost=True))
    assert (done(records, "going_on"), done(records, "step")) == ([1], [2])
    assert len(waited) == 3


def test_a_lock_that_a_dead_machine_left_is_waited_for(card, clips, begun, monkeypatch):
    held, let_go, waited = threading.Event(), threading.Event(), []

    def hold():
        with begun.held():
            held.set()
            let_go.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()

    def released(seconds):
        waited.append(seconds)
        let_go.set()
        holder.join()

    monkeypatch.setattr(card._cancel, "wait", released)
    records = answers(card, **making(clips.all[0], saved=1, lost=True))
    assert records[-1]["state"] == "done"
    assert waited == [1.0]


def test_steps_that_never_come_are_made_again(card, clips, monkeypatch):
    waited = []
    monkeypatch.setattr(module, "LATE", 2)
    monkeypatch.setattr(card._cancel, "wait", waited.append)
    assert done(answers(card, **making(clips.all[0], saved=1, lost=True)), "step") == [1, 2]
    assert len(waited) == 2
