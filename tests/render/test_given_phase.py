"""Pictures are encoded within the plan; where memory runs out, in tiles: that costs a start anew, never the run."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_ladder import FailAt
from toy_files import toy_model

from holo_lite import Options, Pipeline, Reference, Shot, Storyboard
from holo_lite.errors import RoomError
from holo_lite.events import Finished, PhaseAdvanced, PhaseStarted, SteppedDown
from holo_lite.film.encode import encode_frames
from holo_lite.film.vae_encoder import load_vae_encoder
from holo_lite.plan.pixels import EncodingPlan
from holo_lite.plan.plan import Rung
from holo_lite.render.given_phase import GivenReader

CPU = torch.device("cpu")
CHANGE = "pictures encoded in tiles of 64×64 pixels, blended where they overlap"
SMALL = Options(frames=13, height=64, width=96, steps=1, cfg=1.0)
TOLD = [1, 5, 6, 10, 14, 15, 19]  # of two pictures in memory and one that begins a shot, in frames encoded


@pytest.fixture(scope="module")
def toy(cache):
    return Pipeline.load(toy_model(cache))


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "a.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 96, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def job(toy, picture):
    shots = Shot("a"), Shot("b", image=str(picture))
    return toy.prepare(Storyboard("G.", shots, references=(Reference("c", image=str(picture)),)), SMALL)


def first(toy, job, failing=None):
    """What a run begins with, and the events on the way."""
    reader = GivenReader(toy.model.folder.vae, toy.model.decode_dtype, CPU)
    reading, events = reader.first(job, None, lambda: None), []
    with failing or nullcontext():
        while True:
            try:
                events.append(next(reading))
            except StopIteration as end:
                return end.value, events


def encoded(toy, picture, tile):
    """The latents of the frozen frames, encoded one picture after the other."""
    encoder = load_vae_encoder(toy.model.folder.vae, dtype=toy.model.decode_dtype, device=CPU)
    pixels = np.array(Image.open(picture))
    begin, again, once = (list(encode_frames(encoder, [pixels] * count, tile)) for count in (5, 9, 5))
    return torch.stack([*begin, *again[1:], once[1]], dim=1)


def test_pictures_are_encoded_in_the_tiles_of_the_plan(toy, job, picture):
    for tile in (None, (8, 8)):
        found, events = first(toy, replace(job, encoding=EncodingPlan(tile, 0, 0)))
        assert torch.equal(found.frozen.clean, encoded(toy, picture, tile))
        assert found.plan == job.plan
        assert [event.done for event in events if isinstance(event, PhaseAdvanced)] == TOLD


def test_where_memory_runs_out_pictures_are_encoded_anew_in_tiles(toy, job, picture):
    """Whatever was encoded whole before is not kept: all that is given is encoded in one way."""
    counter = FailAt(-1)
    first(toy, job, counter)
    expected = encoded(toy, picture, (8, 8))
    for place in (20, counter.asked // 3, counter.asked // 2, counter.asked - 40):
        found, events = first(toy, job, FailAt(place))
        (down,) = (event for event in events if isinstance(event, SteppedDown))
        assert (down.change, found.plan.rungs) == (CHANGE, (Rung("encode", CHANGE),))
        after = events[events.index(down) + 1 :]
        assert [event.phase for event in after if isinstance(event, PhaseStarted)] == ["load", "encode"]
        assert [event.done for event in after if isinstance(event, PhaseAdvanced)] == TOLD
        assert torch.equal(found.frozen.clean, expected)
        assert replace(found.plan, rungs=()) == job.plan, "the steps do not pay for it"


def test_in_the_smallest_tiles_it_says_what_helps_and_ends(toy, job):
    with pytest.raises(RoomError, match="while encoding pictures in the smallest tiles; close other programs"):
        first(toy, job, FailAt(200, always=True))


def test_the_video_is_made_and_says_what_was_given_up(toy, job, tmp_path):
    with FailAt(200):
        *_, last = toy.run(job, tmp_path / "a.mp4")
    assert isinstance(last, Finished)
    assert last.settings.plan["rungs"] == [{"at": "encode", "change": CHANGE}]
    assert last.settings.plan["tile"] is None, "frames are decoded whole"
