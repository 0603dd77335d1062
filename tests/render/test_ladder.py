"""Memory that runs out costs a step and some speed, never the run, and never the result."""

import json
import re
from collections import Counter
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from safetensors.torch import save_file
from small_model import config_of, random_model
from torch.utils._python_dispatch import TorchDispatchMode

from holo_lite.eightbit.limits import Workspace
from holo_lite.errors import RoomError
from holo_lite.events import Finished, FrameDone, StepDone, SteppedDown
from holo_lite.model.clip import Chunks, Clip
from holo_lite.plan.ladder import is_out_of_memory, smaller_plan, smaller_tile, with_less_pinned
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.plan import PhasePlan, Plan, Rung
from holo_lite.plan.released import released_sizes
from holo_lite.plan.rung_memory import RungMemory
from holo_lite.render.decode_phase import FrameDecoder
from holo_lite.render.denoise_phase import Denoiser, residency_of
from holo_lite.render.sinks import FilmSink
from holo_lite.sampling.sampler import Context, Guidance, initial_noise
from holo_lite.sampling.step_cache import StepCache
from holo_lite.settings import RunSettings
from holo_lite.story.shots import ShotLayout
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.streaming.disk import DiskReader
from holo_lite.streaming.experts import ExpertSetup, open_images
from holo_lite.streaming.lane import PinError
from holo_lite.streaming.lanes import CpuLane
from holo_lite.streaming.residency import BlockPlaces, Residency

CPU, FP32 = torch.device("cpu"), torch.float32
DATA = Path(__file__).parents[1] / "parity_data"
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
    return ExpertSetup(paths, FP32, CPU)


@pytest.fixture(scope="module")
def undisturbed(denoiser):
    return drive(denoiser, PLAN)[0]


def drive(denoiser, plan, failing=None, **options):
    """Latents in the end, the plan in the end, and the events on the way."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(2, 512, TEXT_DIM, generator=generator)
    guidance = Guidance(Context(rows[0]), Context(rows[1]), SETTINGS.cfg)
    noise = initial_noise(Clip(SETTINGS.layout), SETTINGS.seed)
    denoising = Denoiser(denoiser, SETTINGS, guidance, noise, cache=StepCache.of(SETTINGS.cache), **options)
    run = denoising.run(plan)
    events = []
    with ExitStack() as watched:
        watched.enter_context(failing or nullcontext())
        while True:
            try:
                events.append(next(run))
            except StopIteration as end:
                return denoising.latents, end.value, events
            if isinstance(failing, FailAt) and failing.is_done:
                watched.close()  # which would only count on, slowly


class FailAt(TorchDispatchMode):
    """Says that memory ran out when new memory is asked for the n-th time, once or from then on."""

    def __init__(self, place, *, always=False, error=torch.OutOfMemoryError):
        super().__init__()
        self.place, self.always, self.error, self.asked = place, always, error, 0

    @property
    def is_done(self):
        return 0 < self.place <= self.asked and not self.always

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not result.is_meta and not any(result is arg for arg in args):
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
    for place in [*range(1, 60, 5), *range(60, total, 211), total]:
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


def test_inputs_that_are_held_are_given_up_first_and_change_no_bit(denoiser, undisturbed):
    plan = replace(PLAN, chunks=replace(PLAN.chunks, holding=True))
    assert torch.equal(drive(denoiser, plan)[0], undisturbed)
    found, last, events = drive(denoiser, plan, FailAt(500))
    changes = [event.change for event in events if isinstance(event, SteppedDown)]
    assert changes == ["a shot's inputs are not held any more"]
    assert replace(last, rungs=()) == PLAN
    assert torch.equal(found, undisturbed)
    kept = smaller_plan(replace(plan, pinned_cache_blocks=3), pinned_first=True)
    assert kept is not None
    assert kept[0].pinned_cache_blocks == 3


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
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
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
    nf4, int8 = released_sizes("nf4"), released_sizes("int8")
    here = RungMemory.of(tmp_path, "a card", nf4, request)
    assert here.apply(PLAN) == PLAN
    held = replace(PLAN, chunks=Chunks(512, 256), joint=False, resident=1, resident_other=0, tile=(8, 8))
    here.keep(held)
    assert RungMemory.of(tmp_path, "a card", nf4, request).apply(PLAN) == held
    poorer = replace(PLAN, chunks=Chunks(256, 256), resident=0, resident_other=0)
    assert here.apply(poorer).chunks == Chunks(256, 256), "there may be less memory today"
    longer = ClipRequest(ShotLayout((0,), 9, 4, 6))
    slim, tall = replace(PLAN, tile=(8, 40)), replace(PLAN, tile=(20, 10))
    here.keep(tall)
    assert here.apply(slim).tile == (20, 10), "the smaller area, though the first side is larger"
    here.keep(replace(held, pinned_ring=False))
    assert not here.apply(PLAN).pinned_ring
    here.keep(PLAN)
    assert here.apply(replace(PLAN, chunks=replace(PLAN.chunks, holding=True))) == PLAN, "that was the rung"
    for other in (
        ("another card", nf4, request),
        ("a card", int8, request),
        ("a card", replace(nf4, linear="int8"), request),
        ("a card", replace(nf4, workspace=Workspace(2, 6)), request),
        ("a card", nf4, longer),
    ):
        assert RungMemory.of(tmp_path, *other).apply(PLAN) == PLAN


def test_a_rung_is_forgotten_after_a_week(tmp_path):
    """Another program may have had the memory. What an earlier version kept has no date, and is too old."""
    request, nf4, now = ClipRequest(SETTINGS.layout), released_sizes("nf4"), [1e9]
    here = replace(RungMemory.of(tmp_path, "a card", nf4, request), clock=lambda: now[0])
    held = replace(PLAN, resident=0, resident_other=0)
    here.keep(held)
    for days, plan in ((0, held), (6.9, held), (7.1, PLAN), (-1, PLAN)):
        now[0] = 1e9 + days * 24 * 3600
        assert here.apply(PLAN) == plan, days
    here.keep(held)
    assert here.apply(PLAN) == held, "it did not hold, and counts from now on"
    table = json.loads(here.table.path.read_text())
    del table[here.key]["since"]
    here.table.path.write_text(json.dumps(table))
    assert here.apply(PLAN) == PLAN


def test_a_damaged_memory_of_rungs_is_as_none(tmp_path):
    here = RungMemory.of(tmp_path, "a card", released_sizes("nf4"), ClipRequest(SETTINGS.layout))
    for text in ("", "[]", "null", f'{{"{here.key}": {{"chunks": 3}}}}', f'{{"{here.key}": 3}}'):
        here.table.path.write_text(text)
        assert here.apply(PLAN) == PLAN
    here.keep(PLAN)
    assert here.apply(PLAN) == PLAN


def test_where_pinned_memory_is_the_cards_it_goes_before_everything_else():
    plan = replace(PLAN, pinned_cache_blocks=9)
    first = replace(plan, pinned_cache_blocks=0)
    told = "no blocks kept in pinned memory, which is the card's here"
    assert smaller_plan(plan, pinned_first=True) == (first, told)
    assert smaller_plan(first, pinned_first=True) == smaller_plan(first)
    assert smaller_plan(plan) == (replace(plan, chunks=Chunks(512, 256)), "chunks of 512 and 256 tokens")


def test_refused_pinned_memory_costs_kept_blocks_first_and_then_all_of_it():
    plan, seen = replace(PLAN, pinned_cache_blocks=9), []
    while (rung := with_less_pinned(plan)) is not None:
        plan, change = rung
        seen.append((plan.pinned_cache_blocks, plan.pinned_ring, change))
    kept = "blocks of each expert kept in pinned memory"
    assert seen == [
        *((count, True, f"{count} {kept}") for count in (4, 2, 1, 0)),
        (0, False, "no pinned memory"),
    ]


class Refusing(CpuLane):
    """A CPU that pins so many buffers and no more."""

    def __init__(self, limit):
        super().__init__()
        self.limit, self.pinned = limit, 0

    def host_buffer(self, nbytes, *, pinned):
        if pinned and self.pinned == self.limit:
            raise PinError
        self.pinned += pinned
        return super().host_buffer(nbytes, pinned=pinned)

    def free_host(self, host):
        self.pinned -= host.pinned


@pytest.mark.parametrize(
    ("limit", "changes"),
    [
        (5, ["1 blocks of each expert kept in pinned memory"]),
        (2, ["1 blocks of each expert kept in pinned memory", "0 blocks of each expert kept in pinned memory"]),
        (1, [f"{n} blocks of each expert kept in pinned memory" for n in (1, 0)] + ["no pinned memory"]),
        (0, [f"{n} blocks of each expert kept in pinned memory" for n in (1, 0)] + ["no pinned memory"]),
    ],
)
def test_a_run_goes_on_with_less_pinned_memory_bit_for_bit(denoiser, undisturbed, monkeypatch, limit, changes):
    lane = Refusing(limit)
    monkeypatch.setattr("holo_lite.streaming.experts.lane_for", lambda _: lane)
    kept = []
    wanted = replace(PLAN, resident=0, resident_other=0, pinned_cache_blocks=3)
    found, plan, events = drive(denoiser, wanted, keep=kept.append)
    assert [event.change for event in events if isinstance(event, SteppedDown)] == changes
    assert plan.rungs == tuple(Rung("step 1", change) for change in changes)
    assert kept[-1] == plan
    assert torch.equal(found, undisturbed)
    assert lane.pinned == 0, "all of it is given back"


def test_memory_on_the_host_that_ends_altogether_is_told(denoiser, monkeypatch):
    def nothing(_lane, nbytes, **_):
        raise RuntimeError(f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {nbytes} bytes.")

    monkeypatch.setattr(CpuLane, "host_buffer", nothing)
    with pytest.raises(RoomError, match=r"close other programs \(DefaultCPUAllocator: can't allocate"):
        drive(denoiser, PLAN)


BARE = replace(PLAN, chunks=Chunks(256, 128), resident=0, resident_other=0)

# --- what is not read again ------------------------------------------------------------------------


def read_by_image(monkeypatch):
    """How often each image is read from now on, by any thread."""
    read, seen = DiskReader.read, Counter()

    def watched(reader, image, buffer):
        seen[image] += 1
        return read(reader, image, buffer)

    monkeypatch.setattr(DiskReader, "read", watched)
    return seen


@pytest.mark.parametrize(
    ("plan", "change", "kept"),
    [
        (replace(PLAN, pinned_cache_blocks=1), "chunks", LAYERS),
        (replace(BARE, pinned_cache_blocks=3), "one guidance", LAYERS),
        (replace(BARE, resident=3), "1 resident blocks", 1),
    ],
    ids=["chunks", "branches", "residency"],
)
def test_a_rung_reads_nothing_again_that_stays(denoiser, undisturbed, monkeypatch, plan, change, kept):
    """Neither resident blocks nor cached ones, nor what of an expert belongs to no block."""
    counter = FailAt(-1)
    drive(denoiser, plan, counter)
    seen, part = read_by_image(monkeypatch), open_images(denoiser.paths["high_noise"])
    found, last, _ = drive(denoiser, plan, FailAt(counter.asked * 3 // 8))
    assert [(rung.at, rung.change.startswith(change)) for rung in last.rungs] == [("step 2", True)]
    before = BlockPlaces.chosen(LAYERS, residency_of(plan))
    places = BlockPlaces.chosen(LAYERS, residency_of(last), before)
    stay = (*places.stay, *places.cached)
    assert len(stay) == kept
    assert [seen[part.rest], *(seen[part.images[index]] for index in stay)] == [1] * (1 + kept)
    assert float((found - undisturbed).norm() / undisturbed.norm()) < 1e-5


counts = st.integers(0, 12)


@given(st.integers(1, 12), st.lists(st.tuples(counts, counts, counts), min_size=1, max_size=4))
def test_blocks_that_stay_are_chosen_among_those_that_stayed(total, plans):
    """Going down, nothing has to be read. Every block is resident or streams, and is cached only if it does."""
    before = None
    for resident, other, cached in sorted(plans, reverse=True):
        found = BlockPlaces.chosen(total, Residency(resident=resident, resident_other=other, cached=cached), before)
        assert sorted((*found.stay, *found.streamed)) == list(range(total))
        assert len(found.stay) == min(resident, total)
        assert set(found.early) <= set(found.stay)
        assert len(found.early) == min(other, len(found.stay))
        assert set(found.cached) <= set(found.streamed)
        assert len(found.cached) == min(cached, len(found.streamed))
        if before is not None:
            assert set(found.stay) <= set(before.stay)
            assert set(found.cached) <= set(before.cached) or len(found.cached) > len(before.cached)
        before = found


# --- what is said of a step ------------------------------------------------------------------------


def test_a_step_says_how_long_it_took_and_what_part_of_it_was_waiting(denoiser, monkeypatch):
    def steps(resident):
        events = drive(denoiser, replace(PLAN, resident=resident))[2]
        return [event for event in events if isinstance(event, StepDone)]

    first, second = (resident := steps(LAYERS))[::2], resident[1::2]
    assert all(0 < event.waited < event.seconds for event in first), "blocks come in an expert's first step"
    assert all(event.waited == 0 < event.seconds for event in second), "and stay"
    assert all(0 < event.waited < event.seconds for event in steps(0))
    monkeypatch.setattr(CpuLane, "waited", lambda _: 0.001)
    assert all(event.waited_share == 0.001 / event.seconds for event in steps(0))


def test_a_run_within_inference_mode_is_the_same(denoiser, undisturbed):
    """Buffers made in that mode may be written in no other, and the stream's threads have modes of their own."""
    with torch.inference_mode():
        assert torch.equal(drive(denoiser, PLAN)[0], undisturbed)


@given(rows=st.integers(2, 300), columns=st.integers(2, 300))
def test_tiles_get_smaller_until_they_are_nothing_but_overlap(rows, columns):
    tile, seen = smaller_tile(None, (rows, columns)), 0
    while tile is not None and seen < 20:
        assert min(tile) >= 8
        tile, seen = smaller_tile(tile, (rows, columns)), seen + 1
    assert seen < 20


def decode(tmp_path, *, place=None, always=False):
    latents = torch.randn(16, 5, 8, 12, generator=torch.Generator().manual_seed(2))
    sink = FilmSink.at(tmp_path / "a.mp4")
    decoder = FrameDecoder(DATA / "vae.safetensors", FP32, CPU)

    def made():
        yield sink.finished((yield from decoder.run(SETTINGS, latents, PLAN, sink)))

    run = made()
    if place is None:
        return list(run)
    with FailAt(place, always=always):
        return list(run)


def test_decoding_begins_anew_in_tiles_and_says_so(tmp_path):
    """Frames of one clip must not come of two ways of decoding."""
    events = decode(tmp_path, place=700)
    (down,) = (event for event in events if isinstance(event, SteppedDown))
    assert down.change == "tiles of 64×64 pixels, blended where they overlap"
    after = events[events.index(down) + 1 :]
    assert [event.index for event in after if isinstance(event, FrameDone)] == list(range(17))
    assert isinstance(after[-1], Finished)
    assert after[-1].settings.plan["tile"] == [8, 8]
    assert after[-1].settings.plan["rungs"] == [{"at": "decode", "change": down.change}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "a.png"]


def test_decoding_that_fails_in_the_smallest_tiles_leaves_nothing(tmp_path):
    with pytest.raises(RoomError, match="smallest tiles"):
        decode(tmp_path, place=300, always=True)
    assert list(tmp_path.iterdir()) == []
