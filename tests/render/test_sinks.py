"""Frames go where the caller says, and denoising and decoding are apart what they are together."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from holo_lite import FilmSink, MemorySink, Options, Pipeline, RawSink, RunSettings, Shot, Storyboard, read_metadata
from holo_lite.errors import OutputError
from holo_lite.events import Finished, FrameDone, LatentsDone, SteppedDown, finish, latents_of
from holo_lite.render.decode_phase import FrameDecoder
from holo_lite.system.cache_folder import CACHE_VARIABLE

BOARD = Storyboard("[character1] is a red square.", (Shot("wide", frames=5), Shot("close", frames=4)))
SMALL = Options(height=32, width=64, steps=2, seed=3)


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline.load()


@pytest.fixture(scope="module")
def shown(pipeline, tmp_path_factory):
    """A whole run into an mp4: its events' frames, and what it ended with."""
    out = tmp_path_factory.mktemp("film") / "a.mp4"
    events = list(pipeline.generate(BOARD, out, SMALL))
    return torch.stack([each.pixels for each in events if isinstance(each, FrameDone)]), events[-1]


def test_apart_they_are_the_run(pipeline, shown):
    """Latents first, frames later: to the bit what one run makes."""
    done, sink = latents_of(pipeline.denoise(pipeline.prepare(BOARD, SMALL))), MemorySink()
    assert done.latents.shape == (16, 3, 4, 8)
    ended = finish(pipeline.decode(done, sink))
    assert torch.equal(sink.tensor(), shown[0])
    assert (ended.video, ended.sheet) == (None, None)
    assert ended.settings == shown[1].settings


def test_latents_can_be_decoded_twice_and_by_another_pipeline(pipeline, shown):
    done = latents_of(pipeline.denoise(pipeline.prepare(BOARD, SMALL)))
    for opened in (pipeline, Pipeline.load()):
        sink = MemorySink()
        finish(opened.decode(done, sink))
        assert torch.equal(sink.tensor(), shown[0])


def test_every_sink_holds_the_same_frames(pipeline, shown, tmp_path):
    memory, raw = MemorySink(), RawSink(tmp_path / "a.rgb")
    for sink in (memory, raw):
        assert isinstance(finish(pipeline.generate(BOARD, sink, SMALL)), Finished)
    bare = np.fromfile(raw.path, np.uint8).reshape(9, 32, 64, 3)
    assert (bare == shown[0].numpy()).all()
    assert (memory.numpy() == bare).all()
    assert all((np.asarray(image) == frame).all() for image, frame in zip(memory.images(), bare, strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["a.rgb"]


def test_a_film_carries_its_settings(shown):
    assert RunSettings.from_json(read_metadata(shown[1].video)) == shown[1].settings
    assert shown[1].sheet.is_file()


@pytest.mark.parametrize("kind", ["film", "memory", "raw"])
def test_an_attempt_that_failed_leaves_no_frame(pipeline, tmp_path, monkeypatch, kind):
    """Memory runs out after some frames: decoding starts again, and the sink has one clip, not one and a half."""
    whole = FrameDecoder.frames

    def failing(self, latents, tile):
        for number, frame in enumerate(whole(self, latents, tile)):
            if tile is None and number == 4:
                raise torch.OutOfMemoryError("no room")
            yield frame

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path.parent / f"cache-{kind}"))  # or the smaller plan is remembered
    monkeypatch.setattr(FrameDecoder, "frames", failing)
    monkeypatch.setattr("holo_lite.render.decode_phase.smaller_tile", lambda *_: (8, 8))
    film, memory, raw = FilmSink.at(tmp_path / "a.mp4"), MemorySink(), RawSink(tmp_path / "a.rgb")
    events = list(pipeline.generate(BOARD, {"film": film, "memory": memory, "raw": raw}[kind], SMALL))
    assert sum(isinstance(each, SteppedDown) for each in events) == 1
    if kind == "memory":
        assert len(memory.frames) == 9
    if kind == "raw":
        assert raw.path.stat().st_size == 9 * 32 * 64 * 3
    written = {"film": {".mp4", ".png", ".safetensors"}, "raw": {".rgb"}}
    assert {path.suffix for path in tmp_path.iterdir()} == written.get(kind, set())


@pytest.mark.parametrize("stop", [1, 5])
def test_a_run_that_is_closed_leaves_no_raw_file(pipeline, tmp_path, stop):
    events = pipeline.generate(BOARD, RawSink(tmp_path / "a.rgb"), SMALL)
    frames = 0
    for event in events:
        frames += isinstance(event, FrameDone)
        if frames == stop:
            break
    events.close()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(pipeline, tmp_path):
    for sink in (RawSink(tmp_path), RawSink(tmp_path / "none" / "a.rgb"), FilmSink.at(tmp_path / "a.avi")):
        with pytest.raises(OutputError, match=str(tmp_path)):
            pipeline.generate(BOARD, sink, SMALL)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_denoising_alone_reads_no_frame(pipeline, seed):
    job = pipeline.prepare(BOARD, Options(height=16, width=32, steps=1, cfg=1, seed=seed))
    kinds = [type(event) for event in pipeline.denoise(job)]
    assert kinds[-1] is LatentsDone
    assert FrameDone not in kinds
