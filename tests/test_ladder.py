"""Memory that runs out costs a step and some speed, never the run, and never the result."""

import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from small_model import config_of, random_model
from torch.utils._python_dispatch import TorchDispatchMode

from holo_lite.decode import Decoding
from holo_lite.denoise import Denoiser
from holo_lite.errors import RoomError
from holo_lite.events import Finished, FrameDone, StepDone, SteppedDown
from holo_lite.model.clip import Chunks, Clip
from holo_lite.plan.fit import PhasePlan, Plan
from holo_lite.plan.ladder import is_out_of_memory, smaller_plan, smaller_tile, with_less_pinned
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.remembered import Remembered
from holo_lite.sampler import Context, Guidance, initial_noise
from holo_lite.settings import RunSettings
from holo_lite.story.shots import ShotLayout
from holo_lite.story.storyboard import Shot, Storyboard

CPU, FP32 = torch.device("cpu"), torch.float32
DATA = Path(__file__).parent / "parity_data"
LAYERS, STEPS, TEXT_DIM = 3, 4, 24
NOTHING = PhasePlan(0)
SETTINGS = RunSettings(
    storyboard=Storyboard("G", (Shot("a"), Shot("b"))),
    frames=17,
    cuts=(9,),
    height=64,
    width=96,
    fps=15.0,
    steps=STEPS,
    cfg=3.0,
    seed=1,
    negative="",
    attention="sparse",
    dtype="fp32",
    device="cpu",
    model="test",
)
PLAN = Plan(
    profile="test",
    scheme="fp32",
    device="cpu",
    budget=10**9,
    chunks=Chunks(1024, 512),
    joint=True,
    slots=2,
    resident=2,
    resident_other=1,
    blocks=LAYERS,
    pinned_cache_blocks=0,
    tile=None,
    text=NOTHING,
    high_noise=NOTHING,
    low_noise=NOTHING,
    decode=NOTHING,
    tile_caches=0,
)


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experts")
    (folder / "dit_config.json").write_text('{"num_heads": 2}')
    paths = {}
    for seed, expert in enumerate(("high_noise", "low_noise")):
        paths[expert] = folder / f"{expert}.safetensors"
        save_file(random_model(config_of(layers=LAYERS), seed).state_dict(), paths[expert])
    return Denoiser(paths, FP32, CPU)


@pytest.fixture(scope="module")
def undisturbed(denoiser):
    return drive(denoiser, PLAN)[0]


def drive(denoiser, plan, failing=None):
    """Latents in the end, the plan in the end, and the events on the way."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(2, 512, TEXT_DIM, generator=generator)
    guidance = Guidance(Context(rows[0]), Context(rows[1]), SETTINGS.cfg)
    noise = initial_noise(Clip(SETTINGS.layout), SETTINGS.seed)
    run = denoiser.run(SETTINGS, guidance, noise, plan)
    events = []
    with failing or nullcontext():
        while True:
            try:
                events.append(next(run))
            except StopIteration as end:
                return *end.value, events


class FailAt(TorchDispatchMode):
    """Says that memory ran out when new memory is asked for the n-th time, once or from then on."""

    def __init__(self, place, *, always=False, error=torch.OutOfMemoryError):
        super().__init__()
        self.place, self.always, self.error, self.asked = place, always, error, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not any(result is arg for arg in args):
            self.asked += 1
            if self.asked == self.place or (self.always and self.asked > self.place):
                raise self.error("CUDA out of memory: Tried to allocate 1.00 GiB")
        return result


def allocations(denoiser):
    counter = FailAt(-1)
    drive(denoiser, PLAN, counter)
    return counter.asked


def test_a_failure_at_any_allocation_is_survived(denoiser, undisturbed):
    """Every allocation of a run of four steps over both experts is made to fail once, in strides."""
    total = allocations(denoiser)
    assert total > 1000
    for place in [*range(1, 60, 3), *range(60, total, 97), total]:
        latents, plan, events = drive(denoiser, PLAN, FailAt(place))
        steps = [event.progress.step.index for event in events if isinstance(event, StepDone)]
        assert steps == list(range(STEPS)), f"allocation {place}: a step was lost or done twice"
        assert sum(isinstance(event, SteppedDown) for event in events) == 1
        assert plan.chunks == Chunks(512, 256)
        assert float((latents - undisturbed).norm() / undisturbed.norm()) < 1e-5


def test_fewer_resident_blocks_change_no_bit(denoiser):
    """At the smallest chunks the next rung is residency, and that only moves weights."""
    plan = replace(PLAN, chunks=Chunks(256, 128))
    expected, _, _ = drive(denoiser, plan)
    found, last, events = drive(denoiser, plan, FailAt(500))
    assert [event.change for event in events if isinstance(event, SteppedDown)] == ["1 resident blocks"]
    assert (last.resident, last.resident_other) == (1, 0)
    assert torch.equal(found, expected)


def test_one_branch_after_the_other_is_the_last_rung_and_changes_no_more_than_rounding(denoiser, undisturbed):
    plan = replace(PLAN, chunks=Chunks(256, 128), resident=0, resident_other=0)
    found, last, _ = drive(denoiser, plan, FailAt(500))
    assert not last.joint
    assert float((found - undisturbed).norm() / undisturbed.norm()) < 1e-5


def test_at_the_lowest_rung_it_says_what_helps_and_ends(denoiser):
    with pytest.raises(RoomError, match="make the clip shorter or smaller"):
        drive(denoiser, PLAN, FailAt(500, always=True))


def test_an_error_of_another_kind_is_not_taken_for_a_lack_of_memory(denoiser):
    class BrokenError(RuntimeError):
        pass

    with pytest.raises(BrokenError):
        drive(denoiser, PLAN, FailAt(500, error=lambda _: BrokenError("shapes do not match")))


def test_what_libraries_say_when_memory_runs_out_is_understood():
    known = [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
    ]
    assert all(is_out_of_memory(error) for error in known)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


@given(
    attention=st.integers(1, 20_000),
    feed_forward=st.integers(1, 20_000),
    resident=st.integers(0, 40),
    joint=st.booleans(),
)
def test_the_ladder_ends_and_every_rung_is_smaller(attention, feed_forward, resident, joint):
    plan = replace(PLAN, chunks=Chunks(attention, feed_forward), resident=resident, joint=joint)
    rungs = 0
    while (rung := smaller_plan(plan)) is not None:
        smaller, change = rung
        sizes = [(p.chunks.attention, p.chunks.feed_forward, p.resident, p.joint) for p in (plan, smaller)]
        assert sizes[1] < sizes[0] or sizes[1][1:] < sizes[0][1:]
        assert all(new <= old for old, new in zip(*sizes, strict=True))
        assert re.search(r"\w", change)
        plan, rungs = smaller, rungs + 1
        assert rungs < 40
    assert (plan.resident, plan.joint) == (0, False)


def test_a_rung_is_remembered_for_that_machine_and_clip_size(tmp_path):
    request = ClipRequest(SETTINGS.layout)
    here = Remembered.of(tmp_path, "a card", "nf4", request)
    assert here.apply(PLAN) == PLAN
    held = replace(PLAN, chunks=Chunks(512, 256), joint=False, resident=1, resident_other=0, tile=(8, 8))
    here.keep(held)
    assert Remembered.of(tmp_path, "a card", "nf4", request).apply(PLAN) == held
    poorer = replace(PLAN, chunks=Chunks(256, 256), resident=0, resident_other=0)
    assert here.apply(poorer).chunks == Chunks(256, 256), "there may be less memory today"
    longer = ClipRequest(ShotLayout((0,), 9, 4, 6))
    for other in (("another card", "nf4", request), ("a card", "int8", request), ("a card", "nf4", longer)):
        assert Remembered.of(tmp_path, *other).apply(PLAN) == PLAN


def test_a_damaged_memory_of_rungs_is_as_none(tmp_path):
    here = Remembered.of(tmp_path, "a card", "nf4", ClipRequest(SETTINGS.layout))
    for text in ("", "[]", "null", f'{{"{here.key}": {{"chunks": 3}}}}', f'{{"{here.key}": 3}}'):
        here.path.write_text(text)
        assert here.apply(PLAN) == PLAN
    here.keep(PLAN)
    assert here.apply(PLAN) == PLAN


def test_refused_pinned_memory_costs_kept_blocks_first():
    plan, change = with_less_pinned(replace(PLAN, pinned_cache_blocks=9))
    assert (plan.pinned_cache_blocks, change) == (4, "4 blocks kept in pinned memory")
    assert with_less_pinned(PLAN) is None


@given(rows=st.integers(2, 300), columns=st.integers(2, 300))
def test_tiles_get_smaller_until_they_are_nothing_but_overlap(rows, columns):
    tile, seen = smaller_tile(None, (rows, columns)), 0
    while tile is not None and seen < 20:
        assert min(tile) >= 8
        tile, seen = smaller_tile(tile, (rows, columns)), seen + 1
    assert seen < 20


def decode(tmp_path, *, place=None, always=False):
    latents = torch.randn(16, 5, 8, 12, generator=torch.Generator().manual_seed(2))
    decoding = Decoding(DATA / "vae.safetensors", FP32, CPU)
    run = decoding.run(SETTINGS, latents, PLAN, tmp_path / "a.mp4", tmp_path / "a.png")
    if place is None:
        return list(run)
    with FailAt(place, always=always):
        return list(run)


def test_decoding_begins_anew_in_tiles_and_says_so(tmp_path):
    """Frames of one clip must not come of two ways of decoding."""
    events = decode(tmp_path, place=700)
    (down,) = (event for event in events if isinstance(event, SteppedDown))
    assert down.change == "tiles of 64x64 pixels, blended where they overlap"
    after = events[events.index(down) + 1 :]
    assert [event.index for event in after if isinstance(event, FrameDone)] == list(range(17))
    assert isinstance(after[-1], Finished)
    assert after[-1].settings.plan["tile"] == [8, 8]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "a.png"]


def test_decoding_that_fails_in_the_smallest_tiles_leaves_nothing(tmp_path):
    with pytest.raises(RoomError, match="smallest tiles"):
        decode(tmp_path, place=300, always=True)
    assert list(tmp_path.iterdir()) == []
