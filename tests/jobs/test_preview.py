"""Previews show the clip that is coming, and never cost it."""

import base64
import io
import json
import re

import pytest
import torch
import torch.nn.functional as F
from conversions import convert, write_source
from hypothesis import given, strategies as st
from PIL import Image
from rich.console import Console

from holo_lite import ModelOptions
from holo_lite.errors import CheckpointError
from holo_lite.events import Finished, FrameDone, NoPreview, PhaseStarted, PreviewDone, Resolved, StepDone
from holo_lite.film.colour_fit import drawn_pictures, fit_colours, regress
from holo_lite.film.colours import ColourMap
from holo_lite.jobs import preview
from holo_lite.jobs.preview import colours_of, draw_sheet, preview_path, with_previews
from holo_lite.render.pipeline import Pipeline
from holo_lite.sampling.sampler import Progress
from holo_lite.sampling.schedule import Schedule
from holo_lite.settings import Options
from holo_lite.story.shots import FRAMES_PER_LATENT, latent_frame_of
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.views.display import LiveDisplay, display
from holo_lite.views.run import show
from holo_lite.views.terminal_pictures import PIECE, protocol_of, sequence
from holo_lite.weights.folder import open_folder
from holo_lite.weights.manifest import PREVIEW, read_manifest

BOARD = Storyboard(
    "[character1] is a red square. [character2] is a cyan circle. The setting is a striped grey wall.",
    (
        Shot("Wide shot of [character1] and [character2], still.", frames=9),
        Shot("Close-up of [character1], moving up.", frames=8),
    ),
)
SMALL = Options(height=16, width=16, steps=5, cfg=1.0)
FLAT = ColourMap(((0.0,) * 16,) * 3, (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline.load(options=ModelOptions(device="cpu"))


@pytest.fixture(scope="module")
def colours(pipeline):
    return fit_colours(pipeline.model.folder.vae)


@pytest.fixture(scope="module")
def film(pipeline, tmp_path_factory):
    """A clip of the built-in model: its last estimate of the clean latents, and its frames (17, H, W, 3)."""
    events = list(pipeline.generate(BOARD, tmp_path_factory.mktemp("film") / "a.mp4", Options(steps=8)))
    (clean,) = [event.progress.clean for event in events if isinstance(event, StepDone)][-1:]
    return clean, torch.stack([event.pixels for event in events if isinstance(event, FrameDone)])


def mean_colours(frames):
    """Frames (n, H, W, 3), averaged over the 8x8 pixels and the frames of each latent pixel. → (F, h, w, 3)."""
    small = F.avg_pool2d(frames.float().permute(0, 3, 1, 2), 8)
    later = small[1:].unflatten(0, (-1, FRAMES_PER_LATENT)).mean(1)
    return torch.cat([small[:1], later]).permute(0, 2, 3, 1)


# --- what it shows ---------------------------------------------------------------------------------


def test_a_preview_has_the_colours_of_the_film(film, colours):
    """Measured: 20.9 dB, and 0.48 of the variance; one flat colour would explain none of it."""
    clean, frames = film
    found, true = colours.pictures(clean).float(), mean_colours(frames)
    error = ((found - true) ** 2).mean()
    assert found.shape == true.shape
    assert 10 * torch.log10(255**2 / error) > 19
    assert 1 - error / ((true - true.mean((0, 1, 2))) ** 2).mean() > 0.35


def test_every_frame_shows_the_latent_frame_that_holds_it(pipeline):
    """A sheet of latent frames of one grey each, read back from its thumbnails."""
    settings = pipeline.prepare(BOARD, SMALL).settings
    greys = torch.arange(5, dtype=torch.uint8)[:, None, None, None] * 50
    sheet = draw_sheet(settings, greys.expand(5, 2, 2, 3))
    shown = {index: picture.getpixel((5, 5))[0] // 50 for index, picture in sheet._thumbnails.items()}
    assert shown == {index: latent_frame_of(index) for index in (0, 3, 5, 8, 9, 11, 14, 16)}
    assert [latent_frame_of(index) for index in range(10)] == [0, 1, 1, 1, 1, 2, 2, 2, 2, 3]


def test_regression_finds_a_linear_map():
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(16, 3, generator=generator), torch.randn(3, generator=generator)
    latents = torch.randn(200, 16, generator=generator)
    found = ColourMap.of(regress(latents, latents @ weight + bias))
    assert torch.allclose(torch.tensor(found.weight).T, weight, atol=1e-4)
    assert torch.allclose(torch.tensor(found.bias), bias, atol=1e-4)


def test_colours_beyond_the_range_are_cut_off():
    bright = ColourMap(((9.0, *(0.0,) * 15),) * 3, (0.0, 0.0, 0.0))
    latents = torch.zeros(16, 1, 1, 3)
    latents[0, 0, 0] = torch.tensor([-1.0, 0.0, 1.0])
    assert bright.pictures(latents)[0, 0, :, 0].tolist() == [0, 128, 255]


def test_the_drawn_pictures_have_light_and_colour_all_over():
    pictures = torch.stack(list(drawn_pictures()))
    assert pictures.abs().max() <= 1
    assert (pictures.amax((0, 2, 3)) > 0.9).all()
    assert (pictures.amin((0, 2, 3)) < -0.9).all()
    assert torch.equal(pictures, torch.stack(list(drawn_pictures())))


# --- where the colours come from -------------------------------------------------------------------


def test_the_converter_measures_the_colours_of_the_vae_it_writes(tmp_path, monkeypatch):
    convert(write_source(tmp_path / "source"), tmp_path / "model")
    section = read_manifest(tmp_path / "model").sections[PREVIEW]
    stored = ColourMap.read(section)
    assert stored == fit_colours(tmp_path / "model" / "vae")
    monkeypatch.setattr(preview, "fit_colours", None)  # it is not fitted again
    assert colours_of(open_folder(tmp_path / "model")) == stored


def test_colours_that_no_manifest_holds_are_fitted_once(toy_copy, monkeypatch, tmp_path):
    monkeypatch.setattr(preview, "cache_folder", lambda: tmp_path / "cache")
    folder, fitted = open_folder(toy_copy), []
    monkeypatch.setattr(preview, "fit_colours", lambda path: fitted.append(path) or FLAT)
    assert [colours_of(folder), colours_of(folder)] == [FLAT, FLAT]
    (kept,) = (tmp_path / "cache" / "colours").iterdir()
    kept.write_text('{"weight": [[')
    assert colours_of(folder) == FLAT
    assert fitted == [folder.vae] * 2
    config = folder.vae / "config.json"  # another scale of latents has other colours
    config.write_text(json.dumps({**json.loads(config.read_text()), "latents_mean": [0.5] * 16}))
    colours_of(folder)
    assert len(fitted) == 3


def test_colours_that_cannot_be_kept_are_used_all_the_same(toy_copy, monkeypatch, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setattr(preview, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(preview, "fit_colours", lambda _: FLAT)
    assert colours_of(open_folder(toy_copy)) == FLAT
    assert "not kept" in caplog.text


def test_a_record_comes_back_as_it_was(colours):
    assert ColourMap.read(json.loads(json.dumps(colours.as_record()))) == colours


NUMBERS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2)


@given(st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=2), max_leaves=4), st.booleans())
def test_what_is_no_record_is_none(found, bias):
    good = FLAT.as_record() | {"weight": [[0.0] * 16] * 3, "bias": [0.0] * 3}
    assert ColourMap.read(found) is None
    assert ColourMap.read(good) is not None
    assert ColourMap.read(good | ({"bias": found} if bias else {"weight": found})) is None


# --- in a run --------------------------------------------------------------------------------------


def begun(pipeline, out):
    return pipeline.generate(BOARD, out, SMALL)


def kinds(events):
    return [type(event).__name__ for event in events]


def test_previews_come_after_their_steps_and_change_nothing_else(pipeline, tmp_path):
    path = preview_path(tmp_path / "a.mp4")
    assert path == tmp_path / "a-preview.png"
    plain = list(begun(pipeline, tmp_path / "b.mp4"))
    seen = []
    for event in with_previews(begun(pipeline, tmp_path / "a.mp4"), lambda: FLAT, path, every=2):
        if isinstance(event, PreviewDone):
            assert isinstance(seen[-1], StepDone)
            assert event == PreviewDone(path, seen[-1].progress.step.index + 1)
            with Image.open(path) as sheet:
                assert sheet.size == Image.open(tmp_path / "b.png").size
        seen.append(event)
    assert [event.done for event in seen if isinstance(event, PreviewDone)] == [2, 4, 5]
    assert [name for name in kinds(seen) if name != "PreviewDone"] == kinds(plain)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "a-preview.png",
        *(f"{name}.{kind}" for name in "ab" for kind in ("mp4", "png", "latents.safetensors")),
    }


def test_a_preview_that_cannot_be_written_is_told_once_and_costs_no_run(pipeline, tmp_path):
    path = preview_path(tmp_path / "a.mp4")
    path.mkdir()
    events = list(with_previews(begun(pipeline, tmp_path / "a.mp4"), lambda: FLAT, path, every=1))
    (told,) = [event for event in events if isinstance(event, NoPreview)]
    assert "a-preview.png: cannot be written" in told.why
    assert isinstance(events[-1], Finished)
    assert list(path.iterdir()) == []


def test_colours_that_cannot_be_had_cost_no_run(pipeline, tmp_path):
    def missing():
        raise CheckpointError("vae: is cut short")

    events = list(with_previews(begun(pipeline, tmp_path / "a.mp4"), missing, tmp_path / "p.png", every=1))
    assert isinstance(events[0], Resolved)
    assert events[1] == NoPreview("vae: is cut short")
    assert kinds(events).count("NoPreview") == 1
    assert kinds(events)[-1] == "Finished"


def test_closing_the_previews_closes_the_run(pipeline, tmp_path):
    closed = []

    def events():
        try:
            yield from begun(pipeline, tmp_path / "a.mp4")
        finally:
            closed.append(True)

    shown = with_previews(events(), lambda: FLAT, tmp_path / "p.png", every=1)
    next(shown)
    shown.close()
    assert closed == [True]
    assert list(tmp_path.iterdir()) == []


def test_the_command_draws_previews_only_where_asked_or_watched(run, tmp_path):
    words = ("--height", 16, "--width", 16, "--steps", 2, "--cfg", 1, "--frames", 9)
    assert run("generate", "a road", *words, "--out", "b.mp4").code == 0
    assert not (tmp_path / "b-preview.png").exists()
    outcome = run("generate", "a road", *words, "--out", "a.mp4", "--preview", 1)
    assert (outcome.code, outcome.out) == (0, "")
    lines = [line for line in outcome.err.splitlines() if line.startswith("preview ")]
    assert lines == [f"preview        a-preview.png, after step {step}" for step in (1, 2)]
    assert (tmp_path / "a-preview.png").is_file()
    assert run("generate", "a road", "--preview", -1).code == 2


# --- in the terminal -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM_PROGRAM": "iTerm.app", "TMUX": "/tmp/tmux"}, None),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1"}, None),
    ],
)
def test_a_terminal_says_what_it_can_show(environment, protocol):
    assert protocol_of(environment) == protocol


@given(st.binary(min_size=1, max_size=3 * PIECE))
def test_kitty_gets_the_file_in_pieces_and_is_told_the_last(png):
    messages = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", sequence(png, "kitty", 60))
    assert base64.b64decode("".join(content for _, content in messages)) == png
    assert all(len(content) <= PIECE for _, content in messages)
    assert [facts.rpartition("m=")[2] for facts, _ in messages] == ["1"] * (len(messages) - 1) + ["0"]
    assert messages[0][0].startswith("a=T,f=100,q=2,c=60,")


def test_iterm_gets_the_file_at_once():
    text = sequence(b"picture", "iterm2", 60)
    facts, content = re.fullmatch(r"\x1b\]1337;File=([^:]*):([^\x07]*)\x07", text).groups()
    assert base64.b64decode(content) == b"picture"
    assert {"inline=1", "size=7", "width=60"} <= set(facts.split(";"))


def shown_live(path, monkeypatch, **environment):
    """What a terminal gets of a preview in the midst of denoising."""
    for name in ("TMUX", "TERM_PROGRAM", "KITTY_WINDOW_ID", "LC_TERMINAL", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    file, latents = io.StringIO(), torch.zeros(1)
    step = StepDone(Progress(Schedule.of(2).steps[1], 2, latents, latents))
    with display(Console(file=file, force_terminal=True, width=120)) as view:
        for event in (PhaseStarted("denoise", 2), PreviewDone(path, 1), step):
            show(event, view)
        assert isinstance(view, LiveDisplay)
        assert view._pace.title == "denoising"  # the bar goes on
    return file.getvalue()


def test_a_live_display_shows_the_picture_where_it_can(tmp_path, monkeypatch):
    path = tmp_path / "p.png"
    path.write_bytes(b"not looked into")
    shown = shown_live(path, monkeypatch, TERM_PROGRAM="ghostty")
    assert f"preview        {path}, after step 1" in shown
    assert base64.b64encode(b"not looked into").decode() in shown
    assert "\x1b_G" not in shown_live(path, monkeypatch, TERM="xterm-256color")
    path.unlink()
    assert "\x1b_G" not in shown_live(path, monkeypatch, TERM_PROGRAM="ghostty")  # gone, and no matter
