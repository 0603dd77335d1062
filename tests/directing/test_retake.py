"""Shots made again: all others stay to the bit, through kills and the step cache; and what cannot be is told."""

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file
from toy_files import toy_model

from holo_lite import Options, Pipeline, Shot, Storyboard, finish
from holo_lite.directing.old_film import OldFilm
from holo_lite.directing.retake import Retake
from holo_lite.errors import HoloError, OutputError, RunError, SettingsError, StoryboardError
from holo_lite.events import GoingOn, Resolved, StepDone
from holo_lite.film.video import read_metadata
from holo_lite.film.video_frames import video_frames
from holo_lite.runs.kept_latents import latents_path
from holo_lite.settings import RunSettings

SHOTS = tuple(Shot(f"wide shot of the house in the {light}") for light in ("morning", "rain", "evening", "night"))
BOARD = Storyboard("A house by the sea.", SHOTS)
SMALL = Options(frames=29, height=16, width=32, steps=3)
SPANS = [(0, 9), (9, 13), (13, 21), (21, 29)]
LATENT_SPANS = [range(3), range(3, 4), range(4, 6), range(6, 8)]


@pytest.fixture(scope="module")
def toy(cache):
    return Pipeline.load(toy_model(cache))


@pytest.fixture(scope="module")
def old(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    finish(toy.generate(BOARD, folder / "old.mp4", SMALL))
    return folder / "old.mp4"


def latents(video):
    return load_file(latents_path(video))["latents"]


def pixels(video):
    return list(video_frames(video))


def settings_of(video):
    return RunSettings.from_json(read_metadata(video))


@pytest.mark.parametrize("again", [{1}, {3}, {2, 4}, {1, 2, 3}])
def test_every_shot_that_is_not_named_stays_to_the_bit(toy, old, tmp_path, again):
    finish(toy.retake(old, {n: f"close shot of a door, number {n}" for n in again}, tmp_path / "new.mp4"))
    before, now = latents(old), latents(tmp_path / "new.mp4")
    for number, span in enumerate(LATENT_SPANS, start=1):
        assert torch.equal(now[:, list(span)], before[:, list(span)]) == (number not in again)
    assert settings_of(tmp_path / "new.mp4").new_shots == {n: SPANS[n - 1] for n in again}


def test_frames_before_the_first_new_shot_are_the_same_before_they_are_encoded(toy, old):
    from holo_lite import MemorySink

    whole, again = MemorySink(), MemorySink()
    finish(toy.generate(BOARD, whole, SMALL))
    finish(toy.retake(old, {3: "a close shot"}, again))
    same = [bool((a == b).all()) for a, b in zip(whole.frames, again.frames, strict=True)]
    assert all(same[: SPANS[2][0]])
    assert not any(same[slice(*SPANS[2])])


def test_the_video_knows_what_it_was_made_from_and_can_be_retaken_itself(toy, old, tmp_path):
    first, second = tmp_path / "first.mp4", tmp_path / "second.mp4"
    finish(toy.retake(old, {2: "close shot of a door"}, first))
    found = settings_of(first)
    assert [(s.shot, s.source, s.source_shot) for s in found.frozen.shots] == [(n, "old.mp4", n) for n in (1, 3, 4)]
    assert found.frozen.shots[0].fingerprint == OldFilm.read(old).fingerprint()
    assert found.shown_captions[1] == "close shot of a door"
    finish(toy.retake(first, {4: None}, second, Options(seed=9)))
    assert settings_of(second).shown_captions == found.shown_captions
    assert torch.equal(latents(second)[:, :6], latents(first)[:, :6])


def test_with_neither_caption_nor_seed_the_next_seed_is_taken_and_said(toy, old):
    job = toy.prepare(Retake(old, {2: None}))
    assert job.settings.seed == 1
    assert "seed 1, since with the old one nothing would change" in job.notes
    assert toy.prepare(Retake(old, {2: "another shot"})).settings.seed == 0
    assert toy.prepare(Retake(old, {2: None}), Options(seed=0)).settings.seed == 0


def test_the_options_are_the_videos_own_where_nothing_is_said(toy, tmp_path):
    said = Options(**{**vars(SMALL), "cfg": 2.5, "seed": 4, "negative": "rain", "cfg_until": 0.5})
    finish(toy.generate(BOARD, tmp_path / "own.mp4", said))
    job = toy.prepare(Retake(tmp_path / "own.mp4", {2: "a door"}), Options(steps=2))
    now = job.settings
    assert (now.cfg, now.seed, now.negative, now.cfg_until, now.steps) == (2.5, 4, "rain", 0.5, 2)
    assert (now.frames, now.cuts) == (29, (9, 13, 21))


@pytest.mark.parametrize("done", [1, 2])
def test_a_run_that_was_cut_off_goes_on_to_the_same_video(toy, old, tmp_path, done):
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    finish(toy.retake(old, {2: "a door"}, whole, Options(cache=(0.9, 0.9), steps=4)))
    events = toy.retake(old, {2: "a door"}, cut, Options(cache=(0.9, 0.9), steps=4), run=tmp_path / "run")
    for event in events:
        if isinstance(event, StepDone) and event.done == done:
            break
    events.close()
    gone = tmp_path / "gone.mp4"
    shutil.copy(old, gone)  # what it was made from is not needed again
    resumed = list(toy.resume(tmp_path / "run", cut))
    assert any(isinstance(event, GoingOn) for event in resumed)
    assert torch.equal(latents(cut), latents(whole))
    assert all((a == b).all() for a, b in zip(pixels(cut), pixels(whole), strict=True))


def test_a_run_without_a_step_says_that_it_must_be_begun_again(toy, old, tmp_path):
    from holo_lite.runs.folder import RunFolder
    from holo_lite.runs.record import Record, circumstances

    job = toy.prepare(Retake(old, {2: "a door"}))
    here = circumstances(toy.model.device, {}, threads=1)
    record = Record(job.settings, job.plan, toy.model.recorded, "../new.mp4", here)
    RunFolder(tmp_path / "run").begin(record)
    with pytest.raises(RunError, match="type the command that began it again"):
        finish(toy.resume(tmp_path / "run", tmp_path / "new.mp4"))


@pytest.mark.parametrize(
    ("again", "options", "said"),
    [
        ({5: None}, {}, "shot 5: old.mp4 has shots 1 to 4"),
        ({0: None}, {}, "shot 0: old.mp4 has shots 1 to 4"),
        ({}, {}, "no shot is named"),
        ({1: None, 2: None, 3: None, 4: None}, {}, "all shots of old.mp4 are named"),
        ({1: " "}, {}, "empty caption"),
        ({1: "a [shot cut] b"}, {}, "contains the tag"),
        ({1: None}, {"height": 32}, "height: stays that of old.mp4"),
        ({1: None}, {"frames": 33}, "frames: stays that of old.mp4"),
        ({1: None}, {"kappa": 1.5}, "kappa 1.5: give a number from 0 to 1"),
        ({"1": None}, {}, "'1' is no number of a shot"),
    ],
)
def test_what_cannot_be_made_again_is_one_line(toy, old, again, options, said):
    with pytest.raises(HoloError) as caught:
        toy.prepare(Retake(old, again), Options(**options))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_latents_of_another_clip_or_damaged_ones_are_told_by_name(toy, old, tmp_path):
    other = tmp_path / "other.mp4"
    finish(toy.generate(BOARD, other, dataclasses.replace(SMALL, seed=3)))
    shutil.copy(old, tmp_path / "old.mp4")
    shutil.copy(latents_path(other), tmp_path / "old.latents.safetensors")
    with pytest.raises(OutputError, match=r"latents of another clip \(seed 3, now 0\)"):
        toy.prepare(Retake(tmp_path / "old.mp4", {1: "a door"}))
    content = bytearray(latents_path(old).read_bytes())
    content[-200] ^= 1
    (tmp_path / "old.latents.safetensors").write_bytes(content)
    with pytest.raises(OutputError, match="is damaged, or was changed since it was written"):
        finish(toy.retake(tmp_path / "old.mp4", {1: "a door"}, tmp_path / "new.mp4"))
    (tmp_path / "old.latents.safetensors").write_bytes(content[:100])
    with pytest.raises(OutputError, match="is not a file of kept latents, or is damaged"):
        toy.prepare(Retake(tmp_path / "old.mp4", {1: "a door"}))


def test_a_file_that_is_no_video_of_ours_is_told(toy, tmp_path):
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(OutputError, match="is not a video, or is damaged"):
        toy.prepare(Retake(tmp_path / "text.mp4", {1: None}))
    with pytest.raises(OutputError, match="cannot be read"):
        toy.prepare(Retake(tmp_path / "none.mp4", {1: None}))
    with pytest.raises(SettingsError):
        toy.prepare(Retake(7, {1: None}))


def test_a_whole_prompt_keeps_its_words(toy, tmp_path):
    raw = "[global caption] A house. [per shot caption] one door [shot cut] two doors [shot cut] three doors"
    finish(toy.generate(raw, tmp_path / "raw.mp4", Options(frames=13, height=16, width=32, steps=2)))
    job = toy.prepare(Retake(tmp_path / "raw.mp4", {2: "no door"}))
    assert job.settings.storyboard.prompt == raw.replace("two doors", "no door")
    with pytest.raises(StoryboardError, match="empty caption"):
        toy.prepare(Retake(tmp_path / "raw.mp4", {2: " "}))


def test_notes_are_told_first(toy, old, tmp_path):
    first = next(iter(toy.retake(old, {2: None}, tmp_path / "new.mp4")))
    assert isinstance(first, Resolved)
    assert first.notes[0].startswith("seed 1")
