"""Many storyboards: what is done stays, what fails is told, and the rest goes on."""

import itertools
import re
from dataclasses import replace

import pytest

from holo_lite import ModelOptions
from holo_lite.errors import OutputError, StoryboardError
from holo_lite.events import Finished, StepDone
from holo_lite.film.video import read_metadata
from holo_lite.jobs import batch
from holo_lite.jobs.batch import find_items, render_batch
from holo_lite.jobs.items import ItemEnded
from holo_lite.render.pipeline import Pipeline
from holo_lite.settings import Options, RunSettings
from holo_lite.text.encoder import TextEncoder

TINY = ("--height", 16, "--width", 16, "--steps", 2, "--cfg", 1, "--frames", 9)
SAID = Options(height=16, width=16, steps=2, cfg=1.0, frames=9)
words = itertools.count()  # no prompt of one test is in the cache from another


@pytest.fixture
def boards(tmp_path):
    """A folder of two storyboards that work and, in the midst of them, one that does not."""
    folder = tmp_path / "boards"
    folder.mkdir()
    for name in ("a.txt", "c.txt"):
        (folder / name).write_text(
            f"[global caption] A road {next(words)}. [per shot caption] wide [shot cut] close"
        )
    (folder / "b.toml").write_text('global = "A road."')
    (folder / "notes.md").write_text("no storyboard")
    return folder


@pytest.fixture
def pipeline():
    return Pipeline.load(options=ModelOptions(device="cpu"))


def videos(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.mp4")}


def test_one_that_fails_is_told_and_the_rest_go_on(run, boards, tmp_path):
    outcome = run("batch", boards, "--out", "films", *TINY)
    assert outcome.code == 1
    *lines, last = outcome.out.splitlines()
    assert re.fullmatch(r"done        films/a\.mp4  in \d:\d\d", lines[0])
    assert lines[1].startswith(f"failed      {boards}/b.toml: there are no shots")
    assert re.fullmatch(r"done        films/c\.mp4  in \d:\d\d", lines[2])
    assert last == "2 done, 1 failed"
    assert {path.name for path in (tmp_path / "films").iterdir()} == {
        f"{name}.{kind}" for name in "ac" for kind in ("mp4", "png", "latents.safetensors")
    }
    assert "2 of 2: films/c.mp4" in outcome.err
    assert re.fullmatch(r"all took       \d:\d\d", outcome.err.splitlines()[-1])


def test_the_second_time_nothing_is_made_again(run, boards, tmp_path, monkeypatch):
    run("batch", boards / "a.txt", boards / "c.txt", *TINY)
    before = videos(tmp_path)
    monkeypatch.setattr(Pipeline, "run", None)
    outcome = run("batch", boards / "a.txt", boards / "c.txt", *TINY)
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1] == "2 kept"
    assert videos(tmp_path) == before


def test_a_video_made_otherwise_is_left_and_told_until_again_is_said(run, boards, tmp_path):
    run("batch", boards / "a.txt", *TINY)
    (tmp_path / "c.mp4").write_bytes(b"not a film")
    before = videos(tmp_path)
    outcome = run("batch", boards / "a.txt", boards / "c.txt", *TINY, "--seed", 4)
    assert outcome.code == 1
    assert outcome.out.splitlines() == [
        "different   a.mp4  made with other settings: seed 0, now 4; use --overwrite to replace it",
        "different   c.mp4  not made by holo-lite; use --overwrite to replace it",
        "2 different",
    ]
    assert videos(tmp_path) == before
    outcome = run("batch", boards / "a.txt", boards / "c.txt", *TINY, "--seed", 4, "--again")
    assert (outcome.code, outcome.out.splitlines()[-1]) == (0, "2 done")
    for name in ("a.mp4", "c.mp4"):
        assert RunSettings.from_json(read_metadata(tmp_path / name)).seed == 4


def test_the_text_encoder_is_opened_once_for_all_prompts(boards, pipeline, tmp_path, monkeypatch):
    opened, real = [], TextEncoder.open
    monkeypatch.setattr(TextEncoder, "open", lambda *given, **said: opened.append(1) or real(*given, **said))
    items = find_items([boards / "a.txt", boards / "c.txt"], tmp_path)
    assert sum(isinstance(event, Finished) for event in render_batch(pipeline, items, SAID)) == 2
    assert opened == [1]


def test_what_breaks_off_in_the_midst_is_that_video_only(boards, pipeline, tmp_path):
    def begin(pipeline, job, video):
        for event in pipeline.run(job, video):
            yield event
            if isinstance(event, StepDone) and video.stem == "a":
                raise OutputError(f"{video}: the disk is full")

    items = find_items([boards], tmp_path)
    ended = [event for event in render_batch(pipeline, items, SAID, begin=begin) if isinstance(event, ItemEnded)]
    assert [(each.item.video.stem, each.state) for each in ended] == [
        ("b", "failed"),
        ("a", "failed"),
        ("c", "done"),
    ]
    assert "the disk is full" in ended[1].why
    assert set(videos(tmp_path)) == {"c.mp4"}


def test_memory_that_ran_out_in_one_video_is_not_tried_again_in_the_next(boards, pipeline, tmp_path):
    plans = []

    def begin(_, job, __):
        plans.append((job.plan.joint, job.settings.plan["joint"]))
        job.remembered.keep(replace(job.plan, joint=False))
        yield from ()

    said = replace(SAID, cfg=2.0, frames=13)  # a size no other test remembers anything of
    list(render_batch(pipeline, find_items([boards], tmp_path), said, begin=begin))
    assert plans == [(True, True), (False, False)]


def test_a_mistake_of_ours_is_not_a_failed_video(boards, pipeline, tmp_path):
    def begin(*_):
        raise AssertionError("a bug")
        yield

    with pytest.raises(AssertionError, match="a bug"):
        list(render_batch(pipeline, find_items([boards], tmp_path), SAID, begin=begin))


def test_cut_off_what_is_done_stays_and_the_rest_goes_on_where_it_was(run, boards, tmp_path, monkeypatch):
    real = batch.saved_run

    def stopped(pipeline, job, video, **how):
        for event in real(pipeline, job, video, **how):
            yield event
            if isinstance(event, StepDone) and video.stem == "c":
                raise KeyboardInterrupt

    monkeypatch.setattr(batch, "saved_run", stopped)
    outcome = run("batch", boards / "a.txt", boards / "c.txt", *TINY)
    assert outcome.code == 130
    assert (
        outcome.err.splitlines()[-1] == "interrupted; finished videos are kept; type the same command to continue"
    )
    assert outcome.out.splitlines()[-2:] == ["not begun   c.mp4", "1 done, 1 not begun or interrupted"]
    before = videos(tmp_path)
    assert set(before) == {"a.mp4"}
    monkeypatch.setattr(batch, "saved_run", real)
    outcome = run("batch", boards / "a.txt", boards / "c.txt", *TINY)
    assert outcome.code == 0
    assert "continuing after step 1 of 2" in outcome.err
    assert videos(tmp_path)["a.mp4"] == before["a.mp4"]


def test_two_storyboards_of_one_name_would_be_one_video(boards, tmp_path):
    (boards / "a.json").write_text("{}")
    with pytest.raises(StoryboardError, match="several storyboards are named a; rename"):
        find_items([boards], tmp_path)
    assert len(find_items([boards / "a.txt", boards, boards / "a.txt"][:1] * 2, tmp_path)) == 1


def test_a_folder_without_storyboards_is_told(tmp_path, run):
    (tmp_path / "notes.md").write_text("nothing")
    outcome = run("batch", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert "holds no storyboards (.toml, .json, .txt)" in outcome.err
    assert run("batch").code == 2


def test_a_file_that_is_not_there_fails_alone(run, boards):
    outcome = run("batch", "gone.toml", boards / "a.txt", *TINY)
    assert outcome.code == 1
    assert outcome.out.splitlines()[0] == "failed      gone.toml: there is no such file; check the name"
    assert outcome.out.splitlines()[-1] == "1 done, 1 failed"


@pytest.mark.parametrize("names", [("gone.toml",), ("gone.toml", "lost.txt")])
def test_only_files_that_are_not_there_are_one_mistake(run, names, monkeypatch):
    monkeypatch.setattr(Pipeline, "load", None)  # nothing is opened for it
    outcome = run("batch", *names, *TINY)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == f"error: {', '.join(names)}: there is no such file; check the name\n"


def test_hidden_files_in_a_folder_are_no_storyboards(boards, tmp_path):
    (boards / "._a.txt").write_bytes(b"\0\5\26\7")
    assert [item.storyboard.name for item in find_items([boards], tmp_path)] == ["a.txt", "b.toml", "c.txt"]


def test_a_file_in_the_folders_place_is_one_mistake(run, boards, tmp_path):
    (tmp_path / "films").write_bytes(b"mine")
    outcome = run("batch", boards, "--out", "films", *TINY)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: films: is a file; name a folder for the videos\n"


def test_what_cannot_be_written_is_told_before_any_prompt_is_read(run, boards, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(Pipeline, "read_ahead", lambda _, jobs: read.extend(jobs) or iter(()))
    (tmp_path / "films").mkdir()
    for name in ("a.mp4", "c.mp4"):
        (tmp_path / "films" / name).mkdir()
    outcome = run("batch", boards / "a.txt", boards / "c.txt", "--out", "films", *TINY)
    line = "failed      films/{}.mp4: is a folder; name a file in it"
    assert outcome.out.splitlines() == [line.format("a"), line.format("c"), "2 failed"]
    assert read == []


def test_a_video_that_a_power_cut_emptied_is_made_again(run, boards, tmp_path):
    (tmp_path / "a.mp4").touch()
    assert run("batch", boards / "a.txt", *TINY).code == 0
    assert RunSettings.from_json(read_metadata(tmp_path / "a.mp4")).frames == 9


def test_what_is_foreign_or_damaged_in_the_folder_ends_no_batch(run, boards, tmp_path):
    (tmp_path / "a.mp4").mkdir()
    outcome = run("batch", boards / "a.txt", boards / "c.txt", *TINY)
    assert outcome.code == 1
    assert outcome.out.splitlines()[-1] == "1 done, 1 failed"
