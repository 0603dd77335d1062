"""The Euler loop over both experts: what it yields, and how it holds the experts."""

import weakref
from contextlib import contextmanager
from pathlib import Path

import parity
import pytest
import torch
from file_experts import FileExperts
from safetensors.torch import load_file

from holo_lite.model.clip import Clip
from holo_lite.sampling.sampler import Context, Guidance, initial_noise, sample
from holo_lite.sampling.schedule import Schedule
from holo_lite.story.shots import ShotLayout

DATA = Path(__file__).parents[1] / "parity_data"
FILES = FileExperts(
    DATA / "dit_high_noise.safetensors", DATA / "dit_low_noise.safetensors", torch.float32, torch.device("cpu")
)
CLIP = Clip(ShotLayout((0, 2), 3, 2, 3))
STEPS = Schedule.of(6)
SWITCH = STEPS.first_low_noise_step


class Lender:
    """Lends the reference's small experts and writes down what happens to them."""

    def __init__(self, fails_at=None):
        self.log, self.calls, self.fails_at = [], [], fails_at
        self.alive_at_lending = []
        self._lent = []

    @contextmanager
    def lend(self, expert):
        self.alive_at_lending.append(sum(model() is not None for model in self._lent))
        self.log.append(f"lend {expert}")
        try:
            with FILES.lend(expert) as model:
                self._lent.append(weakref.ref(model))
                model.register_forward_hook(self._note)
                box = [model]
                del model
                yield box.pop()
        finally:
            self.log.append(f"back {expert}")

    def _note(self, _, args, output):
        if len(self.calls) == self.fails_at:
            raise RuntimeError("the card is gone")
        latents, timestep, texts, _ = args
        self.calls.append((latents.clone(), float(timestep), len(texts), [v.clone() for v in output]))


@pytest.fixture(scope="module")
def guidance():
    tensors = load_file(DATA / "sampling.safetensors")
    windows = tuple(parity.window_rows(DATA, 0)[:2])
    positive = Context(tensors["sparse.context"][0], windows)
    return Guidance(positive, Context(tensors["sparse.negative_context"][0]), 5.0)


def run(guidance, lender=None, latents=None, **options):
    latents = initial_noise(CLIP, 7) if latents is None else latents
    return list(sample(lender or Lender(), latents, guidance, STEPS, CLIP, **options))


@pytest.fixture(scope="module")
def undisturbed(guidance):
    return run(guidance)


def test_branches_one_after_the_other_give_the_same_bits_as_both_at_once(guidance, undisturbed):
    joint, apart = Lender(), Lender()
    run(guidance, joint)
    sequential = run(guidance, apart, joint=False)
    assert [call[2] for call in joint.calls] == [2] * len(STEPS)
    assert [call[2] for call in apart.calls] == [1] * 2 * len(STEPS)
    for a, b in zip(sequential, undisturbed, strict=True):
        assert torch.equal(a.latents, b.latents)
        assert torch.equal(a.clean, b.clean)


@pytest.mark.parametrize("first", range(len(STEPS) + 1))
def test_a_run_that_goes_on_from_any_step_ends_in_the_same_bits(guidance, undisturbed, first):
    lender = Lender()
    state = undisturbed[first - 1].latents.clone() if first else None
    rest = run(guidance, lender, state, first=first)
    assert [progress.step.index for progress in rest] == list(range(first, len(STEPS)))
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(rest, undisturbed[first:], strict=True))
    assert ("lend high_noise" in lender.log) == (first < SWITCH), "an expert that is not needed is not opened"
    assert ("lend low_noise" in lender.log) == (first < len(STEPS))


@pytest.mark.parametrize("first", [-1, 7])
def test_going_on_from_a_step_that_is_none_is_our_own_mistake(guidance, first):
    with pytest.raises(AssertionError):
        run(guidance, first=first)


def test_each_expert_is_lent_once_and_for_its_own_timesteps(guidance):
    lender = Lender()
    run(guidance, lender)
    assert lender.log == ["lend high_noise", "back high_noise", "lend low_noise", "back low_noise"]
    assert [call[1] for call in lender.calls] == [step.timestep for step in STEPS]


def test_the_first_expert_is_gone_before_the_second_is_opened(guidance):
    """Two experts of 28 GB at once are what no card has room for."""
    lender = Lender()
    run(guidance, lender)
    assert lender.alive_at_lending == [0, 0]


@pytest.mark.parametrize("taken", [1, SWITCH, SWITCH + 1])
def test_closing_midway_gives_the_expert_back(guidance, taken):
    lender = Lender()
    steps = sample(lender, initial_noise(CLIP, 7), guidance, STEPS, CLIP)
    for _ in range(taken):
        next(steps)
    lent = lender.log[-1].removeprefix("lend ")
    steps.close()
    assert lender.log[-1] == f"back {lent}"
    assert len(lender.calls) == taken, "nothing is computed ahead of what was asked for"


def test_an_error_midway_gives_the_expert_back_and_is_not_swallowed(guidance):
    lender = Lender(fails_at=1)
    with pytest.raises(RuntimeError, match="the card is gone"):
        run(guidance, lender)
    assert lender.log == ["lend high_noise", "back high_noise"]


def test_no_expert_is_opened_before_the_first_step_is_asked_for(guidance):
    lender = Lender()
    sample(lender, initial_noise(CLIP, 7), guidance, STEPS, CLIP)
    assert lender.log == []


def test_every_step_is_the_stated_arithmetic_on_the_velocities(guidance):
    lender = Lender()
    for progress, (x, _, _, (positive, negative)) in zip(run(guidance, lender), lender.calls, strict=True):
        step, v = progress.step, negative + 5.0 * (positive - negative)
        assert torch.equal(progress.clean, x - step.sigma * v)
        assert torch.equal(progress.latents, x + v * (step.sigma_next - step.sigma))
        assert progress.steps == len(STEPS)


def test_the_last_step_ends_without_noise(undisturbed):
    last = undisturbed[-1]
    assert last.step.sigma_next == 0
    assert torch.equal(last.latents, last.clean)


@pytest.mark.parametrize("without", ["scale 1", "no negative"])
def test_without_guidance_one_branch_is_computed(guidance, without):
    alone = Guidance(guidance.positive, guidance.negative, 1.0)
    if without == "no negative":
        alone = Guidance(guidance.positive, None, 5.0)
    lender = Lender()
    steps = run(alone, lender)
    assert [call[2] for call in lender.calls] == [1] * len(STEPS)
    x, _, _, (velocity,) = lender.calls[0]
    assert torch.equal(steps[0].clean, x - velocity)  # sigma is 1


def test_steps_own_their_latents(guidance):
    noise = initial_noise(CLIP, 7)
    before, kept, copies = noise.clone(), [], []
    for progress in sample(Lender(), noise, guidance, STEPS, CLIP):
        kept += [progress.latents, progress.clean]
        copies += [progress.latents.clone(), progress.clean.clone()]
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))
    assert len({tensor.untyped_storage().data_ptr() for tensor in [noise, *kept]}) == 1 + len(kept)
    assert torch.equal(noise, before)


def test_what_is_yielded_can_be_used_outside_of_inference_mode(undisturbed):
    """A preview may differentiate, save or change it; an inference tensor would refuse."""
    assert not undisturbed[0].latents.is_inference()
    assert not undisturbed[0].clean.is_inference()
    assert undisturbed[0].latents.dtype == undisturbed[0].clean.dtype == torch.float32


@pytest.mark.parametrize("seed", [0, 1234, 2**63 - 1])
def test_noise_is_that_of_a_cpu_generator_with_a_batch_of_one(seed):
    expected = torch.randn((1, 16, 3, 4, 6), generator=torch.Generator("cpu").manual_seed(seed))
    torch.manual_seed(99)  # the global generator has no part in it
    assert torch.equal(initial_noise(CLIP, seed), expected[0])


def test_noise_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    initial_noise(CLIP, 1)
    assert torch.equal(torch.rand(3), expected)


def test_cutting_a_clip_otherwise_keeps_its_noise():
    other = Clip(ShotLayout((0,), 3, 2, 3))
    assert torch.equal(initial_noise(CLIP, 3), initial_noise(other, 3))
