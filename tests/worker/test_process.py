"""A render in another process: the same video as here, told as it comes, cancelled, killed and gone on with."""

import os
import queue
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import holo_lite
from holo_lite import Options, Pipeline
from holo_lite.film.video_frames import video_frames
from holo_lite.render.sinks import MemorySink
from holo_lite.worker.client import RenderProcess

STORYBOARD = """
global = "[character1] is a red circle in front of a blue wall. This scene contains 2 shots."
[[shot]]
caption = "Medium shot of [character1]."
[[shot]]
caption = "Close-up of [character1]."
"""
OPTIONS = {"frames": 13, "cuts": [5], "steps": 4, "width": 32, "height": 32, "seed": 3}
LONG = {**OPTIONS, "frames": 49, "width": 112, "height": 64, "steps": 40}
GUARD = 600.0


class Heard(queue.Queue):
    """What a process tells."""

    def until(self, kind, **fields):
        """Every record up to one of a kind, which is the last."""
        found = []
        while not found or found[-1]["kind"] != kind or any(found[-1].get(k) != v for k, v in fields.items()):
            found.append(self.get(timeout=GUARD))
            if found[-1]["kind"] == "gone" and kind != "gone":
                raise AssertionError(f"the process is gone: {found[-1]}")
        return found


@contextmanager
def process(log, **more):
    heard = Heard()
    found = RenderProcess(heard.put, log=log, environment={"OMP_NUM_THREADS": "1"}, **more)
    found.start()
    try:
        yield found, heard
    finally:
        found.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with process(tmp_path_factory.mktemp("worker") / "log") as found:
        found[1].until("ready")
        yield found


@pytest.fixture
def order(tmp_path):
    board = tmp_path / "scene.toml"
    board.write_text(STORYBOARD, encoding="utf-8")
    return {
        "version": 1,
        "runs_from": 1,
        "storyboard": str(board),
        "out": str(tmp_path / "scene.mp4"),
        "options": OPTIONS,
    }


def made(running, name, order):
    found, heard = running
    found.make(name, order)
    return heard.until("ended", order=name)


def test_frames_are_those_of_a_run_in_this_process_to_the_bit(running, order, tmp_path):
    """Made here first: then its prompt is known, and the process need not bring in what encodes one."""
    raw, sink = tmp_path / "scene.rgb", MemorySink()
    options = Options(**{**OPTIONS, "cuts": (5,)})
    for _ in Pipeline.load().generate(tmp_path / "scene.toml", sink, options):
        pass
    assert made(running, "raw", {**order, "out": str(raw), "frames": "raw"})[-1]["state"] == "done"
    assert raw.read_bytes() == sink.numpy().tobytes()


def test_an_order_tells_its_phases_previews_and_end_and_is_there_the_second_time(running, order, tmp_path):
    order = {**order, "preview": 2, "preview_at": str(tmp_path / "preview.png")}
    records = made(running, "film", order)
    assert all(each["order"] == "film" for each in records)
    kinds = [each["kind"] for each in records]
    assert kinds.count("step") == 4
    assert kinds.count("preview") == 2
    assert kinds.count("frame") == 13
    assert records[-1]["state"] == "done"
    assert (tmp_path / "preview.png").is_file()
    assert len(list(video_frames(tmp_path / "scene.mp4"))) == 13
    assert made(running, "again", order)[-1]["state"] == "there"


def test_one_run_gives_a_film_and_its_bare_pixels_and_gives_them_again(running, order, tmp_path):
    alone, raw = tmp_path / "alone.rgb", tmp_path / "with.rgb"
    assert made(running, "alone", {**order, "out": str(alone), "frames": "raw"})[-1]["state"] == "done"
    both = {**order, "version": 2, "runs_from": 2, "raw": str(raw), "keep_run": True}
    assert made(running, "both", both)[-1]["state"] == "done"
    assert raw.read_bytes() == alone.read_bytes()
    film = Path(order["out"]).read_bytes()
    raw.unlink()
    records = made(running, "once more", both)
    assert records[-1]["state"] == "done"
    assert not [each for each in records if each["kind"] == "step"], "only decoding is left"
    assert raw.read_bytes() == alone.read_bytes()
    assert Path(order["out"]).read_bytes() == film
    assert made(running, "film", order)[-1]["state"] == "there"


def test_pixels_that_cannot_be_written_are_refused_before_the_film_is_begun(running, order, tmp_path):
    nowhere = {**order, "version": 2, "runs_from": 2, "raw": str(tmp_path / "none" / "film.rgb")}
    records = made(running, "nowhere", nowhere)
    assert records[-1]["error"] == "OutputError"
    assert str(tmp_path / "none") in records[-1]["why"]
    assert not Path(order["out"]).exists()


def test_a_shot_is_made_again_and_the_story_goes_on(running, order, tmp_path):
    assert made(running, "first", order)[-1]["state"] == "done"
    again = {"version": 1, "runs_from": 1, "video": order["out"], "again": {"2": "Wide shot of [character1]."}}
    end = made(running, "retake", {**again, "out": str(tmp_path / "retake.mp4")})[-1]
    assert end["state"] == "done", end
    more = {**order, "video": order["out"], "out": str(tmp_path / "more.mp4")}
    end = made(running, "extend", more)[-1]
    assert end["state"] == "done", end
    assert len(list(video_frames(tmp_path / "retake.mp4"))) == 13


def test_drafts_of_seeds_come_with_a_sheet_of_them_all(running, order, tmp_path):
    records = made(running, "seeds", {**order, "out": str(tmp_path / "seeds.png"), "seeds": [4, 7]})
    assert records[-1]["state"] == "done"
    assert [each["video"] for each in records if each["kind"] == "item"] == [
        str(tmp_path / f"seeds-{seed}.mp4") for seed in (4, 7)
    ]
    assert (tmp_path / "seeds.png").is_file()


def test_what_is_wrong_with_one_order_is_one_line_and_the_next_is_made(running, order, tmp_path):
    for name, wrong, error in (
        ("field", {**order, "options": {"steps": "many"}}, "RecordError"),
        ("size", {**order, "options": {**OPTIONS, "width": 33}}, "SettingsError"),
        ("model", {**order, "model": str(tmp_path / "none")}, "CheckpointError"),
        ("nothing", None, "RecordError"),
    ):
        end = made(running, name, wrong)[-1]
        assert (end["state"], end["error"]) == ("failed", error), end
        assert end["why"]
        assert "\n" not in end["why"]
    assert made(running, "good", order)[-1]["state"] == "done"


def test_what_no_order_is_is_passed_over(running, order):
    found, _ = running
    found._process.stdin.write(b"not json\n[1]\n{}\n" + b'{"do": "sing", "id": "x"}\n')
    assert made(running, "after", order)[-1]["state"] == "done"


def test_a_cancelled_order_goes_on_from_its_last_step(running, order):
    found, heard = running
    order = {**order, "options": LONG}
    found.make("long", order)
    heard.until("step", done=2)
    found.cancel("long")
    assert heard.until("ended", order="long")[-1]["state"] == "cancelled"
    found.make("on", order)
    going_on = heard.until("going_on", order="on")[-1]
    assert going_on["done"] >= 2
    assert going_on["total"] == 40
    found.cancel("on")
    assert heard.until("ended", order="on")[-1]["state"] == "cancelled"


def test_an_order_that_waits_is_cancelled_before_it_begins(running, order):
    found, heard = running
    found.make("runs", {**order, "options": LONG, "out": order["out"].replace("scene", "other")})
    found.make("waits", order)
    found.cancel("waits")
    found.cancel("runs")
    heard.until("ended", order="runs")
    records = heard.until("ended", order="waits")
    assert [each["kind"] for each in records] == ["ended"]
    assert records[0]["state"] == "cancelled"


def test_a_killed_process_says_so_and_the_next_goes_on(order, tmp_path):
    order = {**order, "options": LONG}
    with process(tmp_path / "log") as (found, heard):
        found.make("a", order)
        heard.until("step", done=2)
        found.kill()
        gone = heard.until("gone")[-1]
        assert gone["code"] == -signal.SIGKILL
        assert not found.is_alive
        found.make("b", order)  # nobody listens, and nothing is raised
    with process(tmp_path / "log", idle=1) as (found, heard):
        found.make("c", order)
        assert heard.until("going_on")[-1]["done"] >= 2
        found.cancel("c")
        heard.until("ended", order="c")
        heard.until("let_go")
        found.stop()
        assert heard.until("gone")[-1]["code"] == 0


def test_the_process_ends_when_whoever_started_it_is_killed(order):
    words = f"""
import time
from holo_lite.worker.client import RenderProcess
def hear(record):
    if record["kind"] == "ready":
        print(record["process"], flush=True)
found = RenderProcess(hear)
found.start()
found.make("a", {{**{order!r}, "options": {LONG!r}}})
time.sleep({GUARD})
"""
    with subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True) as starter:
        number = int(starter.stdout.readline())
        starter.kill()
    deadline = time.monotonic() + GUARD
    while _runs(number) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(number)


def _runs(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{number}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_files_of_the_current_folder_are_not_imported(tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise SystemExit('imported from here')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    here = str(Path(holo_lite.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, ""]))
    with process(tmp_path / "log") as (found, heard):
        assert heard.until("ready")
        found.stop()


def test_an_unknown_word_is_refused():
    done = subprocess.run(
        [sys.executable, "-P", "-m", "holo_lite.worker", "--fast"], capture_output=True, text=True, timeout=GUARD
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "--fast" in done.stderr


def test_several_devices_make_a_film_and_what_becomes_of_one_ends_its_order_alone(running, order, tmp_path):
    """The branches apart, so to the bit. A rank that is killed is named, and the next order has new ones."""
    _, heard = running
    together = {**order, "version": 3, "runs_from": 2, "opening": {"devices": ["cpu", "cpu"]}}
    frames = [tmp_path / f"{name}.rgb" for name in ("alone", "together")]
    for each, wanted in zip(frames, (order, together), strict=True):
        assert made(running, each.name, {**wanted, "out": str(each), "frames": "raw"})[-1]["state"] == "done"
    assert frames[0].read_bytes() == frames[1].read_bytes()
    running[0].make("long", {**together, "options": LONG})
    heard.until("step", order="long")
    (rank,) = psutil.Process(running[0]._process.pid).children()
    rank.kill()
    end = heard.until("ended", order="long")[-1]
    assert end["state"] == "failed"
    assert end["error"] == "RanksError"
    assert end["why"].startswith("rank 1 (cpu) has ended")
    assert made(running, "next", {**together, "out": str(tmp_path / "next.mp4")})[-1]["state"] == "done"
