"""Nothing that a run did not make is written over unasked, and what is finished is not made again."""

import shutil

import pytest
from PIL import Image

from holo_lite import RunSettings
from holo_lite.film.marks import read_mark
from holo_lite.film.video import read_metadata
from holo_lite.render.pipeline import Pipeline

TINY = ("--frames", 5, "--height", 16, "--width", 16, "--steps", 2, "--cfg", 1)
MINE = b"a photograph of mine"
GENERATE = ("generate", "a quiet road", *TINY)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", ["ref.png", "ref.mp4"])
def test_what_is_in_the_way_stays_and_is_named(run, tmp_path, name):
    (tmp_path / name).write_bytes(MINE)
    outcome = run(*GENERATE, "--out", "ref.mp4")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.splitlines()[-1].startswith(f"error: {name}: is there, and is something else")
    assert contents(tmp_path) == {name: MINE}
    assert run(*GENERATE, "--out", "ref.mp4", "--overwrite").code == 0
    assert contents(tmp_path)[name] != MINE


def test_a_video_of_other_settings_is_something_else(run, tmp_path):
    assert run(*GENERATE, "--out", "a.mp4").code == 0
    before = contents(tmp_path)
    outcome = run(*GENERATE, "--out", "a.mp4", "--seed", 4)
    assert outcome.code == 2
    assert "a.mp4: is there, and is something else (made with other settings: seed 0, now 4)" in outcome.err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("out", [(), ("--out", "video.mp4")], ids=["unnamed", "named"])
def test_the_same_command_again_is_done_already(run, tmp_path, monkeypatch, out):
    assert run(*GENERATE, *out).code == 0
    before = contents(tmp_path)
    assert RunSettings.from_json(read_mark(tmp_path / "video.png")) == RunSettings.from_json(
        read_metadata(tmp_path / "video.mp4")
    )
    monkeypatch.setattr(Pipeline, "run", None)
    outcome = run(*GENERATE, *out)
    assert (outcome.code, outcome.err.splitlines()[-1]) == (0, "done already   video.mp4")
    assert contents(tmp_path) == before


def test_a_sheet_that_the_run_left_before_its_video_is_its_own(run, tmp_path):
    run(*GENERATE, "--out", "a.mp4")
    (tmp_path / "a.mp4").unlink()
    assert run(*GENERATE, "--out", "a.mp4").code == 0


def test_seeds_write_over_nothing_and_are_done_once(run, tmp_path, monkeypatch):
    words = (*GENERATE, "--out", "ref.mp4", "--seeds", "1,2")
    for name in ("ref-seed-2.mp4", "ref-seeds.png", "ref-seed-1.png"):
        (tmp_path / name).write_bytes(MINE)
        outcome = run(*words)
        assert outcome.code == 2
        assert f"{name}: is there, and is something else" in outcome.err
        assert contents(tmp_path) == {name: MINE}
        (tmp_path / name).unlink()
    assert run(*words).code == 0
    made = contents(tmp_path)
    monkeypatch.setattr(Pipeline, "run", None)
    outcome = run(*words)
    assert (outcome.code, outcome.err.splitlines()[-1]) == (0, "done already   ref-seeds.png")
    assert contents(tmp_path) == made
    assert run(*words[:-1], "1,3").code == 2, "another sheet"


def test_a_draft_writes_over_nothing(run, tmp_path):
    (tmp_path / "ref-draft.png").write_bytes(MINE)
    assert run(*GENERATE, "--out", "ref.mp4", "--draft").code == 2
    assert contents(tmp_path) == {"ref-draft.png": MINE}


def test_a_preview_writes_over_nothing(run, tmp_path):
    (tmp_path / "a-preview.png").write_bytes(MINE)
    outcome = run(*GENERATE, "--out", "a.mp4", "--preview", 1)
    assert outcome.code == 0
    assert "note: the run continues without previews (a-preview.png: is there, and is something else" in outcome.err
    assert contents(tmp_path)["a-preview.png"] == MINE


def test_a_batch_leaves_a_picture_that_is_in_the_way(run, tmp_path):
    (tmp_path / "a.txt").write_text("a quiet road")
    (tmp_path / "a.png").write_bytes(MINE)
    outcome = run("batch", "a.txt", *TINY)
    assert outcome.code == 1
    assert "the picture a.png is not made by holo-lite; use --overwrite to replace it" in outcome.out
    assert contents(tmp_path)["a.png"] == MINE
    for word in ("--again", "--overwrite"):
        shutil.copy(tmp_path / "a.txt", tmp_path / "b.txt")
        (tmp_path / "b.png").write_bytes(MINE)
        assert run("batch", "b.txt", *TINY, word).code == 0
        (tmp_path / "b.mp4").unlink()


def test_pictures_of_others_have_no_mark(tmp_path):
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    Image.new("RGB", (3, 3)).save(tmp_path / "b.png", format="JPEG")
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert [read_mark(tmp_path / f"{name}.png") for name in "abc"] == [None] * 3
