"""Drafts: small, quick, with the cuts of the full run; and seeds that can be chosen by them."""

import shlex

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image

from holo_lite import ModelOptions
from holo_lite.commands.drafting import typed_again
from holo_lite.errors import OutputError, SettingsError
from holo_lite.events import FrameDone
from holo_lite.film.contact_sheet import BACKGROUND, MARGIN
from holo_lite.film.seed_sheet import ACROSS, BOX, SeedSheet
from holo_lite.film.video import probe, read_metadata
from holo_lite.jobs import drafts
from holo_lite.jobs.drafts import MOST_SEEDS, draft_options, explanation, few, parse_seeds, smaller
from holo_lite.render.pipeline import Pipeline
from holo_lite.sampling.bounds import MOST_PIXELS, MOST_STEPS
from holo_lite.settings import Options, RunSettings
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.views import terminal

PROMPT = "[global caption] A road. [per shot caption] wide shot [shot cut] close shot"
TINY = ("--height", 32, "--width", 48, "--steps", 8, "--cfg", 1, "--frames", 9, "--cuts", 5)


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline.load(options=ModelOptions(device="cpu"))


def settings_of(video):
    return RunSettings.from_json(read_metadata(video))


# --- what a draft is -------------------------------------------------------------------------------


SIDES = st.integers(1, MOST_PIXELS // 16).map(lambda tokens: 16 * tokens)


@given(SIDES, SIDES)
def test_a_small_draft_is_half_the_size_but_never_too_small_to_see(height, width):
    sides = smaller(height, width)
    assert all(side % 16 == 0 for side in sides)
    for made, full in zip(sides, (height, width), strict=True):
        assert full / 2 - 16 < made <= full
    assert min(sides) > min(240, height, width) - 16
    if min(height, width) <= 240:
        assert sides == (height, width)
    if min(height, width) >= 480:
        assert all(made <= full / 2 for made, full in zip(sides, (height, width), strict=True))


@given(st.integers(1, MOST_STEPS))
def test_a_draft_has_a_quarter_of_the_steps_and_at_least_four(steps):
    assert few(steps) <= steps
    assert few(steps) >= min(steps, 4)
    assert abs(few(steps) - steps / 4) <= 0.5 or few(steps) in {4, steps}


def test_a_draft_keeps_length_cuts_and_seed(pipeline):
    board = Storyboard("A road.", (Shot("wide"), Shot("close")), frames=49, cuts=(21,), height=480, width=832)
    said = Options(seed=7, cfg=3.0)
    full = pipeline.prepare(board, said).settings
    small = pipeline.prepare(board, draft_options(said, full, small=True)).settings
    same = pipeline.prepare(board, draft_options(said, full, small=False)).settings
    for draft in (small, same):
        assert (draft.frames, draft.cuts, draft.seed, draft.cfg) == (49, (21,), 7, 3.0)
        assert draft.steps == few(full.steps) < full.steps
    assert (small.height, small.width) == (240, 416)
    assert (same.height, same.width) == (480, 832)
    assert "416×240 instead of 832×480" in explanation(small, full)
    assert "size and noise are the full run's" in explanation(same, full)


def test_a_seeds_draft_shows_the_clip_that_the_seed_makes(pipeline, tmp_path):
    """Measured with 8 steps and 4: 39 dB between a seed's draft and its clip, 14 dB to another seed's."""
    board = Storyboard(
        "[character1] is a red square. [character2] is a cyan circle. The setting is a striped grey wall.",
        (
            Shot("Wide shot of [character1] and [character2], still.", frames=9),
            Shot("Close-up of [character1], moving up.", frames=8),
        ),
    )

    def made(options):
        events = pipeline.generate(board, tmp_path / "a.mp4", options)
        return torch.stack([event.pixels for event in events if isinstance(event, FrameDone)]).float()

    def likeness(one, other):
        return 10 * torch.log10(255**2 / ((one - other) ** 2).mean())

    full = pipeline.prepare(board, Options(steps=8)).settings
    draft = made(draft_options(Options(steps=8, seed=2), full, small=False))
    assert likeness(draft, made(Options(steps=8, seed=2))) > 25
    assert likeness(draft, made(Options(steps=8, seed=0))) < 20


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("1", (7,)), ("4", (7, 8, 9, 10)), ("1,5,9", (1, 5, 9)), ("5,", (5,)), ("3,3,1", (3, 1)), (" 2 , 1", (2, 1))],
)
def test_seeds_are_counted_or_named(text, seeds):
    assert parse_seeds(text, first=7) == seeds


@pytest.mark.parametrize("text", ["", "0", "-3", "x", "1,x", "1;2", str(MOST_SEEDS + 1), "9" * 30, ","])
def test_seeds_that_are_none_are_told(text):
    with pytest.raises(SettingsError, match="give a count from 1 to 64, or a list"):
        parse_seeds(text, first=0)


# --- the sheet of all seeds ------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 3, ACROSS + 2])
def test_a_seeds_row_shows_the_middle_of_each_of_its_shots(shots):
    spans = [(9 * number, 9 * number + 9) for number in range(shots)]
    sheet = SeedSheet((5, 900), dict(enumerate(spans, start=1)))
    assert not sheet.begun
    for seed in (5, 900):
        for index in range(9 * shots):
            sheet.add(seed, index, torch.full((64, 112, 3), (index + (seed == 900)) % 256, dtype=torch.uint8))
    assert sheet.begun
    pixels = np.asarray(sheet.draw())
    greys = {9 * number + 4 + other for number in range(shots) for other in (0, 1)}
    thumb = BOX[0] * round(BOX[0] * 64 / 112)
    for grey in greys:  # each fills as much as a thumbnail, and more by letters only
        area = (pixels == grey).all(-1).sum()
        assert thumb <= area < 1.05 * thumb
    for border in (pixels[:MARGIN], pixels[-MARGIN:], pixels[:, :MARGIN], pixels[:, -MARGIN:]):
        assert (border == BACKGROUND).all()


def test_a_sheet_where_a_folder_stands_is_refused_before_any_work(run, tmp_path, monkeypatch):
    (tmp_path / "a-seeds.png").mkdir()
    monkeypatch.setattr(Pipeline, "run", None)
    outcome = run("generate", PROMPT, *TINY, "--out", "a.mp4", "--seeds", 2)
    assert outcome.code == 2
    assert "a-seeds.png: is a folder" in outcome.err


# --- the command -----------------------------------------------------------------------------------


def test_draft_makes_a_small_film_and_names_the_full_command(run, tmp_path, monkeypatch):
    monkeypatch.setattr(drafts, "SMALLEST_SIDE", 16)
    words = ("generate", PROMPT, *TINY, "--seed", 3, "--out", "a film.mp4")
    outcome = run(*words, "--draft")
    assert (outcome.code, outcome.out) == (0, "")
    lines = outcome.err.splitlines()
    assert "draft: 16×16 instead of 48×32, 4 of 8 steps" in lines[0]
    (full,) = [line for line in lines if line.startswith("full run")]
    assert shlex.split(full.removeprefix("full run")) == ["holo-lite", *map(str, words)]
    assert {path.name for path in tmp_path.iterdir()} == {"a film-draft.mp4", "a film-draft.png"}
    made = settings_of(tmp_path / "a film-draft.mp4")
    assert (made.height, made.width, made.steps, made.frames, made.cuts, made.seed) == (16, 16, 4, 9, (5,), 3)


def test_seeds_make_a_sheet_and_name_each_seeds_command(run, tmp_path):
    words = ("generate", PROMPT, *TINY)
    outcome = run(*words, "--seeds=4,2", "--seed", 9)
    assert (outcome.code, outcome.out) == (0, "")
    made = {seed: settings_of(tmp_path / f"video-seed-{seed}.mp4") for seed in (4, 2)}
    assert {seed: (each.seed, each.height, each.steps) for seed, each in made.items()} == {
        4: (4, 32, 4),
        2: (2, 32, 4),
    }
    lines = outcome.err.splitlines()
    assert "seeds          video-seeds.png" in lines
    commands = [line.split(maxsplit=2)[2] for line in lines if line.startswith("seed ")]
    assert [shlex.split(each) for each in commands] == [
        ["holo-lite", *map(str, words), "--seed", str(seed)] for seed in (4, 2)
    ]
    with Image.open(tmp_path / "video-seeds.png") as sheet:
        assert sheet.size[0] > 2 * 200


def test_small_drafts_of_seeds_are_had_by_both_options(run, tmp_path, monkeypatch):
    monkeypatch.setattr(drafts, "SMALLEST_SIDE", 16)
    outcome = run("generate", PROMPT, *TINY, "--out", "a.mp4", "--draft", "--seeds", 1)
    assert outcome.code == 0
    assert "at another size the same seed gives other noise" in outcome.err
    assert (probe(tmp_path / "a-seed-0.mp4").height, settings_of(tmp_path / "a-seed-0.mp4").steps) == (16, 4)


def test_drafts_that_are_cut_off_leave_a_sheet_of_what_there_was(run, tmp_path, monkeypatch):
    real, begun = Pipeline.run, []

    def failing(self, job, out, **said):
        begun.append(job.settings.seed)
        if len(begun) == 2:
            raise OutputError("the disk is full")
        return real(self, job, out, **said)

    monkeypatch.setattr(Pipeline, "run", failing)
    outcome = run("generate", PROMPT, *TINY, "--out", "a.mp4", "--seeds", 3)
    assert outcome.code == 2
    assert outcome.err.splitlines()[-2:] == ["seeds          a-seeds.png", "error: the disk is full"]
    assert (tmp_path / "a-seeds.png").is_file()


OTHER = st.sampled_from(["--model", "m", "a prompt with spaces", "--cfg", "3", "--out=x.mp4", "-h"])
LEFT_OUT = st.sampled_from([("--draft",), ("--seeds", "4"), ("--seeds=1,2"), ("--seed", "3"), ("--seed=3",)])


@given(st.lists(OTHER, max_size=5), st.lists(st.tuples(st.integers(0, 5), LEFT_OUT), max_size=3))
def test_the_full_command_is_what_was_typed_without_its_drafts(kept, left_out):
    groups = [[word] for word in kept]
    for place, words in left_out:
        groups.insert(place, [words] if isinstance(words, str) else list(words))
    typed = [word for group in groups for word in group]
    assert shlex.split(typed_again(typed, seed=8)) == ["holo-lite", *kept, "--seed", "8"]


def test_commands_are_quoted_as_the_system_does(monkeypatch):
    monkeypatch.setattr(terminal.os, "name", "nt")
    assert typed_again(["generate", "a prompt", "--draft"]) == 'holo-lite generate "a prompt"'
