"""The queue: one at a time, in an order that can be changed; whatever happens to the process, a record follows."""

from pathlib import Path

import numpy as np
import pytest
from fake_renderer import Clock, FakeRenderer

from holo_lite.film.contact_sheet import ContactSheet
from holo_lite.web.book import JobBook, JobEntry
from holo_lite.web.renders import RenderQueue


def entry(name, tmp_path, **more):
    order = {"out": str(tmp_path / f"{name}.mp4"), "options": {}, **more}
    numbers = {"width": 64, "height": 64, "frames": 21, "fps": 15.0, "steps": 4}
    return JobEntry(
        name, 0.0, "full", name, "waiting", "", **numbers, made_from=None, began=None, seconds=None, order=order
    )


class Stage:
    """A queue, its renderers and what was told."""

    def __init__(self, tmp_path, devices=("auto",)):
        self.folder, self.told, self.renderers, self.clock = tmp_path, [], [], Clock()
        self.devices = devices
        self.open()

    def open(self):
        self.book = JobBook(self.folder / "jobs.sqlite3")
        self.queue = RenderQueue(
            self.book,
            self.folder / "jobs",
            self.renderer,
            lambda *told: self.told.append(told),
            clock=self.clock,
            devices=self.devices,
        )

    def renderer(self, hear):
        self.renderers.append(FakeRenderer(hear))
        return self.renderers[-1]

    @property
    def now(self):
        return self.renderers[-1]

    def add(self, *names, **more):
        (self.folder / "jobs").mkdir(exist_ok=True)
        for name in names:
            self.queue.add(entry(name, self.folder, **more))

    def states(self):
        return {each["id"]: each["state"] for each in self.queue.records()}


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def test_jobs_are_made_one_after_the_other_in_one_process(stage):
    stage.add("a", "b")
    assert stage.states() == {"a": "running", "b": "waiting"}
    stage.now.finish("a")
    assert stage.states() == {"a": "done", "b": "running"}
    stage.now.finish("b", "there")
    assert stage.states() == {"a": "done", "b": "done"}
    assert (len(stage.renderers), stage.now.made) == (1, ["a", "b"])
    assert stage.queue.queue()["running"] is None


def test_how_far_it_is_is_told_with_the_time_that_is_left(stage):
    stage.add("a", "b")
    stage.now.begin("a")
    for done in (1, 2):
        stage.clock.now += 2.0
        stage.now.step("a", done)
    record = stage.queue.record("a")
    assert (record["phase"], record["done"], record["total"], record["unit"]) == ("denoise", 2, 4, "steps")
    assert record["memory"] == {"used": 100, "planned": 200}
    assert record["waited"] == 0.25
    assert record["notes"] == ["cut 6 → 5"]
    assert record["left"] == pytest.approx(
        2 * 2.0 + 2.0 * 2.0 / (8.0 / 4)
    )  # two steps, and what decoding is of a step
    assert 0 < record["share"] < 1
    whole = record["elapsed"] + record["left"]
    assert stage.queue.queue()["left"] == pytest.approx(record["left"] + whole)  # b is as much work as a


def test_a_cancelled_job_stays_where_it_is_and_can_go_on(stage):
    stage.add("a", "b")
    stage.queue.cancel("a")
    assert stage.states()["a"] == "stopping"
    stage.now.finish("a", "cancelled")
    assert stage.states() == {"a": "cancelled", "b": "running"}
    stage.queue.resume("a")
    assert stage.states()["a"] == "waiting"
    stage.now.finish("b")
    assert stage.states()["a"] == "running"


def test_a_paused_job_waits_for_its_person(stage):
    stage.add("a")
    stage.queue.cancel("a", "paused")
    stage.now.finish("a", "cancelled")
    assert stage.states() == {"a": "paused"}
    stage.queue.next()
    assert stage.states() == {"a": "paused"}


def test_asked_twice_to_stop_the_process_is_ended(stage):
    stage.add("a", "b")
    first = stage.now
    stage.queue.cancel("a")
    stage.queue.cancel("a")
    for _ in range(1000):
        if first.killed:
            break
        stage.queue.queue()
    while stage.states()["a"] == "stopping":
        pass
    assert first.killed
    assert stage.states() == {"a": "cancelled", "b": "running"}
    assert len(stage.renderers) == 2


def test_a_process_that_dies_fails_its_job_alone_and_says_why(stage):
    stage.add("a", "b")
    stage.now.is_alive = False
    stage.now.hear({"kind": "gone", "code": 1, "said": "Traceback\nZeroDivisionError: division by zero"})
    record = stage.queue.record("a")
    assert record["state"] == "failed"
    assert "division by zero" in record["why"]
    assert stage.states()["b"] == "running"
    assert len(stage.renderers) == 2


def test_what_is_wrong_with_a_job_is_told_as_it_is(stage):
    stage.add("a")
    stage.now.finish("a", "failed", "width 33: must be a multiple of 16")
    assert stage.queue.record("a")["why"] == "width 33: must be a multiple of 16"


def test_a_server_that_was_killed_goes_on_with_what_ran(stage):
    stage.add("a", "b", "c")
    stage.queue.move("c", "first")
    stage.open()  # nothing was said to anybody
    assert stage.states() == {"a": "waiting", "c": "waiting", "b": "waiting"}
    stage.queue.next()
    assert stage.now.made == ["a"]


def test_a_server_that_ends_leaves_its_job_waiting(stage):
    stage.add("a")
    stage.queue.close()
    assert stage.states() == {"a": "waiting"}
    stage.queue.next()
    assert stage.states() == {"a": "waiting"}


def test_the_order_is_changed_among_those_that_wait(stage):
    stage.add("a", "b", "c", "d")
    stage.queue.move("d", "first")
    stage.queue.move("b", "down")
    stage.queue.move("a", "down")  # it runs, and stays
    assert stage.queue.queue()["order"] == ["a", "d", "c", "b"]
    stage.queue.move("c", "up")
    stage.open()
    assert stage.queue.queue()["order"] == ["a", "c", "d", "b"]


def test_a_held_queue_begins_nothing(stage):
    stage.queue.hold(True)
    stage.add("a")
    assert stage.states() == {"a": "waiting"}
    stage.queue.hold(False)
    assert stage.states() == {"a": "running"}


def test_removing_takes_the_unfinished_steps_along_and_no_finished_video(stage, tmp_path):
    stage.queue.hold(True)
    stage.add("a", "b")
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4.run").mkdir()
        (tmp_path / f"{name}.mp4").write_bytes(b"film")
    stage.book.update("b", state="done")
    for name in ("a", "b", "none"):
        stage.queue.remove(name)
    assert stage.states() == {}
    assert not (tmp_path / "a.mp4.run").exists()
    assert (tmp_path / "b.mp4.run").exists()
    assert (tmp_path / "b.mp4").exists()
    stage.queue.hold(False)
    stage.add("c")
    stage.queue.remove("c")
    assert stage.states() == {"c": "running"}


def test_a_preview_has_a_name_of_its_own_and_stays_until_the_next_but_one(stage):
    stage.add("a")
    folder = stage.queue.folder_of("a")
    folder.mkdir(parents=True)
    stage.now.begin("a")
    for done in (1, 7, 12):
        (folder / "preview.png").write_bytes(b"picture %d" % done)
        stage.now.tell("a", "preview", path=str(folder / "preview.png"), done=done)
    assert stage.queue.record("a")["preview"] == "/jobs/a/preview-0012"
    kept = {name: path.read_bytes() for name, path in stage.queue.pictures("a").items()}
    assert kept == {"preview-0007": b"picture 7", "preview-0012": b"picture 12"}
    assert {path.name for path in folder.iterdir()} == {"preview.png", *(f"{name}.png" for name in kept)}


def test_a_preview_shows_what_each_shot_is_heading_for(stage):
    stage.add("a")
    folder = stage.queue.folder_of("a")
    folder.mkdir(parents=True)
    stage.now.begin("a")
    assert stage.queue.record("a")["shots"] == []
    sheet = ContactSheet([(0, 9), (9, 17)], ["one", "two"], fps=15)
    sheet.add(4, np.zeros((8, 8, 3), np.uint8))
    sheet.save(folder / "preview.png", "{}")
    stage.now.tell("a", "preview", path=str(folder / "preview.png"), done=3)
    address = "/jobs/a/preview-0003"
    told = [{"caption": "one", "url": f"{address}/1"}, {"caption": "two", "url": f"{address}/2"}]
    assert stage.queue.record("a")["shots"] == told
    (folder / "preview.png").write_bytes(b"half of one")
    stage.now.tell("a", "preview", path=str(folder / "preview.png"), done=4)
    assert stage.queue.record("a")["shots"] == []
    stage.now.finish("a")
    assert stage.queue.record("a")["shots"] == [], "it is a film now"


def test_room_on_the_disk_is_counted_for_what_is_to_come(stage):
    stage.add("a", "b")
    both = stage.queue.queue()["disk"]
    stage.now.finish("a")
    one = stage.queue.queue()["disk"]
    assert both["needed"] == 2 * one["needed"] > 0
    assert one["free"] > 0


def test_every_change_is_told_as_a_whole_record(stage):
    stage.add("a")
    stage.now.begin("a")
    stage.now.finish("a")
    last = {}
    for key, record in stage.told:
        last[key, record.get("id")] = record
    assert last["job", "a"] == stage.queue.record("a")
    assert last["queue", None] | {"disk": None} == stage.queue.queue() | {"disk": None}


def test_a_database_of_a_later_version_is_left_alone(tmp_path):
    import sqlite3

    from holo_lite.errors import OutputError

    path = Path(tmp_path / "jobs.sqlite3")
    with sqlite3.connect(path) as database:
        database.execute("pragma user_version = 99")
    with pytest.raises(OutputError, match="later"):
        JobBook(path)
    path.write_bytes(b"no database" * 100)
    with pytest.raises(OutputError, match="move it away"):
        JobBook(path)


def test_two_cards_make_a_film_each_and_one_that_dies_takes_no_other_along(tmp_path):
    stage = Stage(tmp_path, ("cuda:0", "cuda:1"))
    stage.add("a", "b", "c")
    assert stage.states() == {"a": "running", "b": "running", "c": "waiting"}
    first, second = stage.renderers
    assert [each.orders[name]["opening"]["device"] for each, name in ((first, "a"), (second, "b"))] == [
        "cuda:0",
        "cuda:1",
    ]
    first.is_alive = False
    first.hear({"kind": "gone", "code": 1, "said": "a driver"})
    assert stage.states() == {"a": "failed", "b": "running", "c": "running"}
    assert stage.renderers[2].orders["c"]["opening"]["device"] == "cuda:0"
    stage.queue.cancel("b")
    assert second.cancelled == ["b"]
    second.finish("b", "cancelled")
    assert stage.states()["b"] == "cancelled"
    stage.queue.remove("c")
    assert stage.states()["c"] == "running"
    stage.queue.close()
    assert stage.states()["c"] == "waiting"


def test_two_cards_together_make_one_film_at_a_time(tmp_path):
    stage = Stage(tmp_path, (("cuda:0", "cuda:1"),))
    stage.add("a", "b")
    assert stage.states() == {"a": "running", "b": "waiting"}
    assert stage.renderers[0].orders["a"]["opening"]["devices"] == ["cuda:0", "cuda:1"]


def test_what_two_cards_share_takes_half_as_long(tmp_path):
    stage = Stage(tmp_path, ("cuda:0", "cuda:1"))
    stage.add("a", "b", "c", "d")
    for renderer, name in zip(stage.renderers, ("a", "b"), strict=True):
        renderer.begin(name)
    for done in (1, 2):
        stage.clock.now += 2.0
        for renderer, name in zip(stage.renderers, ("a", "b"), strict=True):
            renderer.step(name, done)
    record = stage.queue.record("a")
    whole = record["elapsed"] + record["left"]
    assert stage.queue.queue()["left"] == pytest.approx((2 * record["left"] + 2 * whole) / 2)
