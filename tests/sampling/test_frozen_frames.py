"""Latent frames that are given stay to the bit, and the others become what they would if those were noised too."""

import weakref
from contextlib import contextmanager
from dataclasses import replace

import oracle
import pytest
import torch
from hypothesis import given, settings, strategies as st
from small_model import TEXT_DIM, clips, config_of, random_model

from holo_lite.model.clip import Clip
from holo_lite.sampling.frozen import FrozenLatents
from holo_lite.sampling.sampler import Context, Guidance, initial_noise, sample
from holo_lite.sampling.schedule import Schedule
from holo_lite.sampling.step_cache import StepCache
from holo_lite.story.shots import ShotLayout

STEPS = Schedule.of(4)
SCALE = 3.0
CONFIG = config_of()
EXPERTS = {name: random_model(CONFIG, seed) for seed, name in enumerate(("high_noise", "low_noise"))}


class Lender:
    """Both experts, always there."""

    @contextmanager
    def lend(self, expert):
        yield EXPERTS[expert]

    def skip(self, expert, forwards):
        pass


def normal(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def guidance():
    positive, negative = normal(2, 20, TEXT_DIM, seed=5)
    return Guidance(Context(positive), Context(negative), SCALE)


def by_the_book(noise, frozen, clip):
    """Latents after the last step, every velocity by the oracle."""
    weights = {name: {n: w.double() for n, w in model.state_dict().items()} for name, model in EXPERTS.items()}
    texts, sparse = [context.rows.double() for context in guidance().contexts], clip.attention == "sparse"

    def velocity(step, x):
        before = (weights[step.expert], CONFIG, x, torch.tensor(step.timestep))
        positive, negative = (oracle.forward(*before, text, clip.layout, None, sparse=sparse) for text in texts)
        return negative + SCALE * (positive - negative)

    *_, last = oracle.sample(velocity, noise.double(), STEPS, frozen)
    return last


def case(clip, frames, kappa=1.0):
    """The clip, its noise, what is given as a run has it, and as the oracle has it."""
    clip = replace(clip, frozen=frozenset(frames))
    noise = initial_noise(clip, 7)
    clean = normal(*noise.shape, seed=9)
    frozen = oracle.Frozen(frames, clean, noise, kappa)
    return clip, noise, FrozenLatents.of(frozen.frames, clean[:, frozen.frames], noise, kappa), frozen


@settings(max_examples=15, deadline=None)
@given(clip=clips(), data=st.data(), kappa=st.sampled_from([1.0, 0.5]), joint=st.booleans())
def test_frozen_frames_stay_and_the_others_see_them_at_the_noise_of_the_step(clip, data, kappa, joint):
    frames = data.draw(st.sets(st.integers(0, clip.layout.latent_frames - 1)))
    clip, noise, given, frozen = case(clip, frames, kappa)
    begun = given.put_into(noise)
    states = list(sample(Lender(), begun, guidance(), STEPS, clip, joint=joint, given=given.seen))
    for state in states:
        for latents in (state.latents, state.clean):
            assert torch.equal(latents[:, frozen.frames], given.clean)
    expected = by_the_book(noise, frozen, clip)
    assert (states[-1].latents - expected).norm() <= 1e-5 * expected.norm()


def test_steps_that_a_cache_saves_leave_frozen_frames_alone():
    clip, noise, given, frozen = case(Clip(ShotLayout((0, 2), 4, 2, 3)), {0, 3})
    begun = given.put_into(noise)
    steps, cache = Schedule.of(12), StepCache.of((10.0, 10.0))
    skipped = 0
    for state in sample(Lender(), begun, guidance(), steps, clip, cache=cache, given=given.seen):
        cache.done(state.computed)
        skipped += state.skipped
        assert torch.equal(state.latents[:, frozen.frames], given.clean)
        assert not torch.equal(state.latents, begun)
    assert skipped > 0


@pytest.mark.parametrize("frames", [set(), {0, 1, 2, 3}])
def test_nothing_frozen_is_as_ever_and_all_frozen_gives_the_input_back(frames):
    clip, noise, given, frozen = case(Clip(ShotLayout((0, 2), 4, 2, 3)), frames)
    *_, last = sample(Lender(), given.put_into(noise), guidance(), STEPS, clip, given=given.seen)
    *_, plain = sample(Lender(), noise, guidance(), STEPS, replace(clip, frozen=frozenset()))
    assert torch.equal(last.latents, frozen.clean if frames else plain.latents)


def test_what_an_expert_sees_is_not_kept_until_the_next_step():
    """A copy of the latents a step long would be in no plan."""
    clip, noise, given, _ = case(Clip(ShotLayout((0, 2), 4, 2, 3)), {1})
    seen = []

    def watched(latents, step):
        shown = given.seen(latents, step)
        seen.append(weakref.ref(shown))
        return shown

    for _ in sample(Lender(), given.put_into(noise), guidance(), STEPS, clip, given=watched):
        assert seen[-1]() is None
