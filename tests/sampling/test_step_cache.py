"""The step cache: which steps it skips, what it makes of them, and that nothing that goes wrong changes either."""

import io
import json
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import pytest
import torch
from cached_runs import CLIP, EXPERTS, MODELS, SCHEDULE, SWITCH, Whole, fast_run, frozen_frames, guidance, slow_run
from fake_cuda import ORDERS
from hypothesis import given, settings, strategies as st
from live_bytes import LiveBytes
from rich.console import Console
from safetensors.torch import save_file
from test_cuda_lane import on_a_card
from test_ladder import PLAN, SETTINGS, FailAt
from test_plan_measured import LAYOUTS, holds, model, profile_of  # noqa: F401 - one is a fixture
from toy_files import toy_model

from holo_lite.events import FrameDone, PhaseStarted, StepDone, SteppedDown
from holo_lite.film.video import read_metadata
from holo_lite.model import dit
from holo_lite.model.clip import Chunks, Clip
from holo_lite.plan.fit import make_plan
from holo_lite.plan.ladder import smaller_plan
from holo_lite.plan.machine import Machine
from holo_lite.plan.opened import folder_sizes
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.profile import find_profile
from holo_lite.plan.released import released_sizes
from holo_lite.plan.rung_memory import RungMemory
from holo_lite.plan.search import Problem
from holo_lite.render.denoise_phase import Denoiser, restored_cache
from holo_lite.render.pipeline import Pipeline
from holo_lite.sampling.sampler import Context, Guidance, Progress, initial_noise, sample
from holo_lite.sampling.schedule import Schedule
from holo_lite.sampling.step_cache import MOST_SKIPPED, StepCache
from holo_lite.sampling.thresholds import parse_thresholds
from holo_lite.settings import OFF, Options, RunSettings
from holo_lite.story.shots import ShotLayout, even_cuts
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.streaming.disk import DiskReader
from holo_lite.streaming.experts import ExpertSetup, StreamedExperts
from holo_lite.streaming.lanes import CpuLane
from holo_lite.streaming.residency import Residency
from holo_lite.streaming.streamer import Streamer
from holo_lite.views.display import display
from holo_lite.views.run import show

CPU, FP32 = torch.device("cpu"), torch.float32
LAYERS = len(MODELS["high_noise"].blocks)
SOME = (0.6, 0.6)  # skips some steps of the small experts, the last of high noise among them
CACHED = replace(SETTINGS, steps=len(SCHEDULE), cache=SOME)
ROOM = replace(PLAN, step_cache=True, blocks=LAYERS)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experts")
    (folder / "dit_config.json").write_text('{"num_heads": 2}')
    for expert in EXPERTS:
        save_file(MODELS[expert].state_dict(), folder / f"{expert}.safetensors")
    return {expert: folder / f"{expert}.safetensors" for expert in EXPERTS}


def skipped(steps):
    return {progress.step.index for progress in steps if progress.skipped}


def told(steps):
    """Which steps to skip, whatever is estimated, in place of `StepCache.serves`."""

    def serves(_, computed, step, *__):
        return computed is not None and step.index in steps

    return patch.object(StepCache, "serves", serves)


def same(one, other):
    return all(torch.equal(a.latents, b.latents) for a, b in zip(one, other, strict=True))


# --- which steps, and what becomes of them ---------------------------------------------------------


@pytest.mark.parametrize("thresholds", [(0.6, 0.6), (1.0, 0.0), (0.0, 0.7)])
@pytest.mark.parametrize("until", [1.0, 0.8])
def test_a_run_with_a_cache_is_the_stated_arithmetic(thresholds, until):
    found, expected = fast_run(Whole(), guidance(until), thresholds), slow_run(thresholds, until)
    assert skipped(found) == {index for index, (_, skip) in enumerate(expected) if skip} != set()
    for progress, (latents, _) in zip(found, expected, strict=True):
        torch.testing.assert_close(progress.latents, latents, rtol=1e-4, atol=1e-4)


@settings(max_examples=4, deadline=None)
@given(frames=st.sets(st.integers(0, CLIP.layout.latent_frames - 1), min_size=1, max_size=3))
def test_a_run_with_a_cache_and_frozen_frames_is_the_stated_arithmetic(frames):
    frozen = frozen_frames(frames)
    found, expected = (run(thresholds=SOME, frozen=frozen) for run in (partial(fast_run, Whole()), slow_run))
    assert skipped(found) == {index for index, (_, skip) in enumerate(expected) if skip}
    for progress, (latents, _) in zip(found, expected, strict=True):
        torch.testing.assert_close(progress.latents, latents, rtol=1e-4, atol=1e-4)


def test_a_cache_that_never_skips_changes_no_bit():
    assert same(fast_run(Whole(), thresholds=(1e-9, 1e-9)), fast_run(Whole()))


def test_without_thresholds_nothing_is_kept():
    cache = StepCache.of(OFF)
    steps = list(sample(Whole(), initial_noise(CLIP, 1), guidance(), SCHEDULE, CLIP, cache=cache))
    assert (cache.residuals, cache.state()) == ([], {})
    assert all(progress.computed is None and not progress.skipped for progress in steps)


@pytest.mark.parametrize("joint", [True, False])
def test_branches_apart_skip_the_same_steps_to_the_same_bits(joint):
    experts = Whole()
    steps = fast_run(experts, thresholds=SOME, joint=joint)
    assert same(steps, fast_run(Whole(), thresholds=SOME))
    each = 1 if joint else 2
    assert experts.skips == [(SCHEDULE.steps[index].expert, each) for index in sorted(skipped(steps))]
    assert sum(experts.branches) == 2 * (len(SCHEDULE) - len(skipped(steps)))


def walk(schedule, thresholds, drift, branches_of=lambda _: 2):
    """The decisions for made-up velocities: each changes by `drift` of itself on the way from step to step."""
    cache, computed, x, decisions = StepCache.of(thresholds), None, torch.ones(8), []
    for step in schedule:
        v = torch.full((8,), (1.0 + drift[step.index]) ** step.index)
        skip = cache.serves(computed, step, x, branches_of(step), schedule)
        decisions.append((skip, computed))
        if not skip:
            computed = cache.after(computed, step, x, v, branches_of(step))
        x = x + v * (step.sigma_next - step.sigma)
    return decisions


drifts = st.lists(st.floats(-0.5, 0.5), min_size=40, max_size=40)
shares = st.floats(0, 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.tuples(shares, shares), drifts, st.integers(0, 40))
def test_what_is_always_computed_whatever_the_velocities_do(count, thresholds, drift, guided):
    schedule = Schedule.of(count)
    stretches, row = {}, 0
    decisions = walk(schedule, thresholds, drift, lambda step: 2 if step.index < guided else 1)
    for step, (skip, computed) in zip(schedule, decisions, strict=True):
        branches = 2 if step.index < guided else 1
        before = stretches.setdefault((step.expert, branches), [])
        row = row + 1 if skip else 0
        if skip:
            assert len(before) >= 2, "the first two of an expert, and after guidance ends, are computed"
            assert not before[0]
            assert not before[1]
            assert step is not schedule.steps[-1]
            assert row <= MOST_SKIPPED
            assert thresholds[EXPERTS.index(step.expert)] > 0
            assert (computed.step.expert, computed.branches) == (step.expert, branches)
        before.append(skip)


def test_velocities_that_do_not_change_are_skipped_as_often_as_is_allowed():
    decisions = walk(Schedule.of(40), (1.0, 1.0), [0.0] * 40)
    assert "".join("-x"[skip] for skip, _ in decisions).startswith("--xxx-xxx-xxx-xxx")


def test_latents_that_do_not_move_say_nothing_of_the_velocity():
    """Nothing over nothing is no small change."""
    cache, x, v = StepCache.of((1.0, 1.0)), torch.ones(8), torch.ones(8)
    first = cache.after(None, SCHEDULE.steps[0], x, v, 2)
    second = cache.after(first, SCHEDULE.steps[1], x, v, 2)
    assert not cache.serves(second, SCHEDULE.steps[2], x, 2, SCHEDULE)


def test_the_negative_branchs_residual_goes_when_guidance_ends():
    cache = StepCache.of(SOME)
    kept = [
        len(cache.residuals)
        for _ in sample(Whole(), initial_noise(CLIP, 1), guidance(0.3), SCHEDULE, CLIP, cache=cache)
    ]
    assert kept == [2] * 3 + [1] * 7


def test_an_expert_without_a_threshold_keeps_no_residual():
    cache = StepCache.of((0.5, 0.0))
    steps = sample(Whole(), initial_noise(CLIP, 1), guidance(), SCHEDULE, CLIP, cache=cache)
    assert [len(cache.residuals) for _ in steps] == [2] * SWITCH + [0] * (len(SCHEDULE) - SWITCH)


# --- streamed --------------------------------------------------------------------------------------


def forwards(passes=1):
    return {"high_noise": passes * SWITCH, "low_noise": passes * (len(SCHEDULE) - SWITCH)}


class Counted:
    """Counts blocks that are taken, dropped, copied and read by the threads that are ahead."""

    def __init__(self):
        self.taken, self.dropped, self.read, self.copied = [], 0, 0, 0

    def __enter__(self):
        take, drop, read, copy = Streamer.take, Streamer.drop, DiskReader.read, CpuLane.copy

        def counted_drop(streamer, count):
            self.dropped += count
            drop(streamer, count)

        def counted_read(*given):
            self.read += threading.current_thread() is not threading.main_thread()
            return read(*given)

        def counted_copy(*given):
            self.copied += threading.current_thread() is not threading.main_thread()
            copy(*given)

        self.patches = [
            patch.object(CpuLane, "copy", counted_copy),
            patch.object(Streamer, "take", lambda streamer, key: self.taken.append(key) or take(streamer, key)),
            patch.object(Streamer, "drop", counted_drop),
            patch.object(DiskReader, "read", counted_read),
        ]
        for each in self.patches:
            each.start()
        return self

    def __exit__(self, *_):
        for each in self.patches:
            each.stop()


residencies = st.builds(
    Residency,
    resident=st.integers(0, LAYERS),
    resident_other=st.integers(0, LAYERS),
    slots=st.integers(1, 3),
    ring=st.integers(1, 3),
    cached=st.integers(0, LAYERS),
)
ANY = st.sets(st.sampled_from([index for index in range(len(SCHEDULE)) if index not in {0, SWITCH}]))


@settings(max_examples=8, deadline=None)
@given(steps=ANY, residency=residencies, joint=st.booleans())
def test_whatever_is_skipped_streams_to_the_same_bits_and_visits_no_block(paths, steps, residency, joint):
    with told(steps):
        expected = fast_run(Whole(), thresholds=SOME, joint=joint)
        passes = 1 if joint else 2
        with (
            StreamedExperts(ExpertSetup(paths, FP32, CPU), forwards(passes), residency) as experts,
            Counted() as counted,
        ):
            found = fast_run(experts, thresholds=SOME, joint=joint)
    assert skipped(found) == steps
    assert same(found, expected)
    resident = min(residency.resident, LAYERS)
    streamed = passes * (LAYERS - resident) * (len(SCHEDULE) - len(steps))
    assert len(counted.taken) == streamed + 2 * resident, "what stays comes once, in its expert's first forward"
    assert counted.copied <= len(counted.taken) + 2 * residency.slots
    assert counted.read <= len(counted.taken) + 2 * (residency.slots + residency.ring + 1)


@pytest.mark.parametrize("steps", [{SWITCH - 1}, {1, 2, 3, 4}], ids=["the last", "all but the first"])
@pytest.mark.parametrize(
    "residency", [Residency(slots=1, ring=1), Residency(slots=3, ring=3), Residency(cached=1), Residency(cached=2)]
)
def test_what_came_for_a_step_that_was_skipped_at_the_switch_is_dropped(paths, residency, steps):
    """The reader gets all the time it wants, so blocks of the forward that falls away are there already."""
    with told(steps):
        expected = fast_run(Whole(), thresholds=SOME)
        with (
            StreamedExperts(ExpertSetup(paths, FP32, CPU), forwards(), residency) as experts,
            Counted() as counted,
        ):
            run = sample(experts, initial_noise(CLIP, 1), guidance(), SCHEDULE, CLIP, cache=StepCache.of(SOME))
            found = [progress for progress in run if time.sleep(0.02) is None]
    assert same(found, expected)
    assert 0 < counted.dropped <= residency.slots
    assert counted.copied == len(counted.taken) + counted.dropped
    assert counted.taken[-1] == ("low_noise", LAYERS - 1)


@pytest.mark.parametrize("order", ORDERS)
def test_no_order_of_a_cards_streams_changes_a_bit_of_a_run_that_skips(paths, monkeypatch, order):
    steps = {2, 4, 8}
    with told(steps):
        expected = fast_run(Whole(), thresholds=SOME)
        card = on_a_card(monkeypatch, order)
        leave = dit._leave

        def looked_at(*given):
            card.computing.synchronize()
            leave(*given)

        monkeypatch.setattr(dit, "_leave", looked_at)
        with StreamedExperts(ExpertSetup(paths, FP32, CPU), forwards(), Residency(cached=1)) as experts:
            found = fast_run(experts, thresholds=SOME)
    assert same(found, expected)
    assert (card.faults, card.runtime.pinned) == ([], {})


# --- memory that runs out, and runs that are cut off -----------------------------------------------


def drive(paths, run=CACHED, plan=ROOM, failing=None, save=lambda _: (), **before):
    """Latents in the end, the plan in the end, and the events on the way."""
    noise = before.pop("latents", None)
    noise = initial_noise(Clip(run.layout), 1) if noise is None else noise
    cache = restored_cache(run, before.pop("cached", {}), CPU)
    denoiser = Denoiser(ExpertSetup(paths, FP32, CPU), run, guidance(), noise, cache=cache, save=save, **before)
    steps = denoiser.run(plan)
    events = []
    with failing or nullcontext():
        while True:
            try:
                events.append(next(steps))
            except StopIteration as end:
                return denoiser.latents, end.value, events


SMALL = replace(ROOM, chunks=Chunks(256, 128))  # the next rung moves blocks, and changes no bit


@pytest.fixture(scope="module")
def undisturbed(paths):
    latents, plan, _ = drive(paths, plan=SMALL)
    assert SWITCH - 1 in plan.skipped
    return latents, plan.skipped


def test_a_step_that_fails_is_decided_again_as_it_was(paths, undisturbed):
    """At any allocation, of steps that are computed and of such that are skipped, in strides."""
    counter = FailAt(-1)
    drive(paths, plan=SMALL, failing=counter)
    for place in range(counter.asked // 5, counter.asked, counter.asked // 4):
        found, plan, events = drive(paths, plan=SMALL, failing=FailAt(place))
        assert [event.change for event in events if isinstance(event, SteppedDown)] == ["1 resident blocks"]
        assert plan.skipped == undisturbed[1]
        assert torch.equal(found, undisturbed[0])


@pytest.mark.parametrize("step", [2, 3])
def test_a_failure_that_shows_after_the_step_leaves_the_cache_as_it_was(paths, undisturbed, monkeypatch, step):
    """A card tells late: the step has been gone through, and is done all the same only once it is waited for."""
    waited, calls = StreamedExperts.waited, []

    def late(experts):
        calls.append(1)
        if len(calls) == step + 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return waited(experts)

    monkeypatch.setattr(StreamedExperts, "waited", late)
    found, plan, _ = drive(paths, plan=SMALL)
    assert plan.rungs[0].at == f"step {step + 1}"
    assert plan.skipped == undisturbed[1]
    assert torch.equal(found, undisturbed[0])


def test_giving_the_cache_up_is_the_last_rung_and_computes_the_rest(paths):
    lowest = replace(ROOM, chunks=Chunks(256, 128), resident=0, resident_other=0, joint=False)
    exact, _, _ = drive(paths, replace(CACHED, cache=OFF), replace(lowest, step_cache=False))
    found, plan, events = drive(paths, plan=lowest, failing=FailAt(30))
    assert [event.change for event in events if isinstance(event, SteppedDown)] == [plan.rungs[0].change]
    assert plan.rungs[0].change == "no step cache: from here on every step is computed"
    assert (plan.rungs[0].at, plan.step_cache, plan.skipped) == ("step 1", False, ())
    assert torch.equal(found, exact)
    assert smaller_plan(plan) is None


def test_that_there_was_no_room_for_a_cache_is_not_remembered(tmp_path):
    request = ClipRequest(SETTINGS.layout, cached=True)
    sizes = released_sizes("nf4")
    here = RungMemory.of(tmp_path, "a card", sizes, request)
    here.keep(replace(ROOM, step_cache=False))
    assert here.apply(ROOM).step_cache
    assert here.key != RungMemory.of(tmp_path, "a card", sizes, replace(request, cached=False)).key


def copied(cache):
    return {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in cache.items()}


@pytest.mark.parametrize("done", range(1, len(SCHEDULE)))
def test_a_run_that_goes_on_from_what_was_saved_ends_in_the_same_bits(paths, undisturbed, states, done):
    latents, plan, cache = states[done]
    numbers = {name: value for name, value in cache.items() if not isinstance(value, torch.Tensor)}
    assert json.loads(json.dumps(numbers)) == numbers
    found, last, _ = drive(paths, plan=plan, latents=latents, done=done, cached=cache)
    assert last.skipped == undisturbed[1]
    assert torch.equal(found, undisturbed[0])


def saved_states():
    """Of a run by hand after each step: its number, its latents, what is saved of its cache, and residuals."""
    cache = StepCache.of(SOME)
    for progress in sample(Whole(), initial_noise(CLIP, 1), guidance(), SCHEDULE, CLIP, cache=cache):
        cache.done(progress.computed)
        residuals = {f"residual {branch}": each.clone() for branch, each in enumerate(cache.residuals)}
        yield progress.step.index + 1, progress.latents, copied(cache.state()), residuals


@pytest.mark.parametrize("earlier", [False, True], ids=["as saved", "as an earlier version saved it"])
def test_residuals_are_computed_again_where_a_step_is_skipped_without_them_and_nowhere_else(earlier):
    """That is the one step that a run which is cut off may lose. Earlier versions saved gigabytes each time."""
    *_, whole = sample(Whole(), initial_noise(CLIP, 1), guidance(), SCHEDULE, CLIP, cache=StepCache.of(SOME))
    seen = set()
    for done, latents, state, residuals in list(saved_states())[:-1]:
        assert {name for name, value in state.items() if isinstance(value, torch.Tensor)} <= {"latents", "velocity"}
        if earlier:
            state = {name: state[name] for name in state if name not in {"attention", "feed_forward"}} | residuals
        lender, cache = Whole(), StepCache.of(SOME)
        cache.restore(state, SCHEDULE, CPU)
        rest = list(sample(lender, latents, guidance(), SCHEDULE, CLIP, first=done, cache=cache))
        again = len(lender.branches) - sum(not each.skipped for each in rest)
        assert again == (rest[0].skipped and not earlier)
        assert len(lender.branches) + len(lender.skips) == len(rest), "as many forwards as were counted on"
        assert torch.equal(rest[-1].latents, whole.latents)
        seen.add(rest[0].skipped)
    assert seen == {True, False}


def forwards_of(monkeypatch, most=10**6):
    """The chunks of every forward from now on. For larger chunks than `most` there is no memory."""
    seen, forward = [], dit.WanDiT.forward

    def watched(expert, latents, timestep, texts, clip, **more):
        seen.append(clip.chunks)
        if clip.chunks.attention > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(expert, latents, timestep, texts, clip, **more)

    monkeypatch.setattr(dit.WanDiT, "forward", watched)
    return seen


def test_what_is_computed_again_is_so_in_the_chunks_of_that_time(paths, states, undisturbed, monkeypatch):
    """Memory may have run out since: the last bits depend on them."""
    done = undisturbed[1][0]
    latents, plan, cache = states[done]
    fewer, seen = replace(plan, chunks=Chunks(7, 5)), forwards_of(monkeypatch)
    _, last, _ = drive(paths, plan=fewer, latents=latents, done=done, cached=cache)
    assert last.skipped == undisturbed[1]
    assert seen[0] == SMALL.chunks
    assert set(seen[1:]) == {Chunks(7, 5)}


def test_where_the_chunks_of_that_time_do_not_fit_any_more_smaller_ones_do(paths, states, undisturbed, monkeypatch):
    done = undisturbed[1][0]
    latents, plan, cache = states[done]
    fewer, seen = replace(plan, chunks=Chunks(512, 256)), forwards_of(monkeypatch, most=1000)
    cache = {**cache, "attention": 1024.0, "feed_forward": 512.0}
    _, last, events = drive(paths, plan=fewer, latents=latents, done=done, cached=cache)
    assert [event.change for event in events if isinstance(event, SteppedDown)] == ["chunks of 256 and 128 tokens"]
    assert seen[:2] == [Chunks(1024, 512), Chunks(256, 128)]
    assert last.skipped == undisturbed[1]


@pytest.fixture(scope="module")
def states(paths):
    """What there is to save after each step."""
    saved = {}

    def save(state):
        saved[state.done] = state.latents.clone(), state.plan, copied(state.cache)
        return ()

    drive(paths, plan=SMALL, save=save)
    return saved


def test_a_video_cut_off_at_a_skipped_step_goes_on_to_the_same_frames(cache, tmp_path):
    pipeline = Pipeline.load(toy_model(cache))
    options = Options(frames=9, height=16, width=32, steps=8, cache=SOME)
    board = Storyboard("A house.", (Shot("the door"), Shot("the roof")))
    with told({2, 3, 6}):
        whole = list(pipeline.generate(board, tmp_path / "a.mp4", options))
        cut = pipeline.generate(board, tmp_path / "b.mp4", options, run=tmp_path / "run")
        next(event for event in cut if isinstance(event, StepDone) and event.skipped)
        cut.close()
        rest = list(pipeline.resume(tmp_path / "run"))
    assert [event.progress.step.index for event in rest if isinstance(event, StepDone)] == [3, 4, 5, 6, 7]
    assert rest[-1].settings.plan["skipped"] == whole[-1].settings.plan["skipped"] == [3, 4, 7]
    frames = [[event.pixels for event in each if isinstance(event, FrameDone)] for each in (whole, rest)]
    assert torch.equal(*map(torch.stack, frames))


# --- the plan --------------------------------------------------------------------------------------


def cached_plan(folder, case, computed):
    """A plan with a cache for a machine with room for that, and for no resident block."""
    sizes, request = folder_sizes(folder, computed.itemsize), ClipRequest(case.layout, cached=True)
    profile = profile_of(case)
    sums = Problem(profile, sizes, request).arithmetic
    step = sums.denoise(sizes.high_noise, profile.largest, 2, joint=case.cfg == "joint")
    return make_plan(profile, sizes, request, Machine(ram_free=max(step, sums.text(2), sums.decode(None))))


@pytest.mark.parametrize("layout", ["33 frames", "33 frames, one branch at a time"])
def test_denoising_with_a_cache_takes_what_is_planned(model, layout):  # noqa: F811
    case, (folder, computed) = LAYOUTS[layout], model("plain")
    plan = cached_plan(folder, case, computed)
    assert plan.step_cache
    run = replace(case.settings, steps=6, cache=(1.0, 1.0))
    with LiveBytes(without_meta=True, computing=False) as live, told({2, 5}):
        rows = [torch.randn(512, 64) for _ in range(2)]
        steering = Guidance(Context(rows[0]), Context(rows[1]), 3.0)
        del rows
        setup, noise = ExpertSetup(folder.experts, computed, CPU), initial_noise(Clip(case.layout), 1)
        steps = Denoiser(setup, run, steering, noise, cache=StepCache.of(run.cache)).run(plan)
        del noise
        peaks = []
        for _ in steps:
            peaks.append(live.peak)
            live.peak = live.now
    holds(max(peaks), plan.high_noise.peak)
    assert max(peaks[3:]) <= plan.low_noise.peak
    assert peaks[2] < peaks[1], "a step that is skipped takes less"


FIVE = ShotLayout.from_frames(241, even_cuts(241, 5), 480, 832)


def test_a_cache_takes_a_stream_a_branch_and_is_in_the_plan():
    sizes, profile = released_sizes("nf4"), find_profile("24gb")
    plain, cached = (make_plan(profile, sizes, ClipRequest(FIVE, cached=cached)) for cached in (False, True))
    assert (plain.step_cache, cached.step_cache) == (False, True)
    sums = [Problem(profile, sizes, ClipRequest(FIVE, cached=each)).arithmetic for each in (False, True)]
    before, after = (each.denoise(sizes.high_noise, Chunks(), 2, joint=True) for each in sums)
    residuals, latents = 2 * FIVE.tokens * 5120 * 2, FIVE.tokens * 64 * 4
    assert after - before == residuals + 2 * latents
    assert residuals == pytest.approx(1.95e9, rel=0.01)
    assert cached.high_noise.peak <= Problem(profile, sizes, ClipRequest(FIVE)).room


def test_a_clip_that_only_fits_without_a_cache_says_so(run):
    words = ("--gpu", "RTX 3060 Ti", "--frames", 465, "--height", 480, "--width", 832)
    assert run("plan", "a road", *words).code == 0
    outcome = run("plan", "a road", *words, "--cache", 0.1)
    assert outcome.code == 2
    assert "the same without --cache" in outcome.err


# --- for people ------------------------------------------------------------------------------------

TINY = ("--height", 16, "--width", 32, "--frames", 5)


def test_skipped_steps_are_shown_and_recorded(run, tmp_path):
    outcome = run("generate", "a road", *TINY, "--steps", 10, "--cache", "high=1,low=0.5", "--out", "a.mp4")
    assert outcome.code == 0
    assert "step cache: thresholds 1 for high noise, 0.5 for low noise" in outcome.err
    found = RunSettings.from_json(read_metadata(tmp_path / "a.mp4"))
    numbers = found.plan["skipped"]
    assert (found.cache, 10 in numbers, 1 in numbers) == ((1.0, 0.5), False, False)
    assert numbers
    assert f"skipped (cached): {len(numbers)} of 10 steps: {', '.join(map(str, numbers))}" in outcome.err
    assert "--cache high=1,low=0.5" in run("inspect", "a.mp4").out


def test_a_step_that_is_skipped_says_so():
    file, empty = io.StringIO(), torch.zeros(1)
    with display(Console(file=file, width=120)) as view:
        show(PhaseStarted("denoise", 1), view)
        show(StepDone(Progress(Schedule.of(1).steps[0], 1, empty, empty, skipped=True)), view)
    assert "denoising 1/1 high-noise, skipped (cached)" in file.getvalue()


def test_the_gate_counts_what_is_skipped_and_shows_what_that_costs(run, cache):
    """The baseline is the same model with every forward computed."""
    models = ("--model", toy_model(cache), "--baseline", toy_model(cache))
    words = ("--steps", 6, "--cache", 1, "--cfg-until", 0.5, "--height", 32, "--width", 64)
    with told({2}):
        outcome = run("evaluate", "--storyboards", 1, *models, *words)
    found = json.loads(outcome.out.splitlines()[-1])
    assert (found["cache"], found["cfg_until"], found["skipped"]) == ([1.0, 1.0], 0.5, 1)
    assert "skipped (cached): 1 of 6 steps" in outcome.out
    assert "guidance: in the first 3 of 6 steps" in outcome.err
    assert found["likeness"]["latents"]["value"] > 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1", (0.1, 0.1)),
        ("high=0.1,low=0.05", (0.1, 0.05)),
        ("low=0.2", (0.0, 0.2)),
        ("low=0.2, high=0", (0.0, 0.2)),
    ],
)
def test_a_threshold_is_one_for_both_experts_or_one_for_each(text, expected):
    assert parse_thresholds(text) == expected


@pytest.mark.parametrize("text", ["", "x", "high", "high=", "middle=0.1", "high=0.1,0.2", "high=0.1;low=0.2", "=1"])
def test_what_is_no_threshold_is_told_on_one_line(run, text):
    outcome = run("generate", "a road", "--cache", text)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert f"--cache '{text}': write a threshold such as 0.1, or high=0.1,low=0.05" in outcome.err


@pytest.mark.parametrize("text", ["-0.1", "1.5", "nan", "high=2"])
def test_a_threshold_out_of_range_is_told_on_one_line(run, text):
    outcome = run("plan", "a road", "--cache", text)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "give a number from 0 to 1" in outcome.err


def test_settings_of_before_there_was_a_cache_are_read_as_without():
    written = json.loads(CACHED.to_json())
    assert RunSettings.from_json(json.dumps(written)) == CACHED
    del written["cache"], written["cfg_until"]
    assert RunSettings.from_json(json.dumps(written)) == replace(CACHED, cache=OFF, cfg_until=1.0)
