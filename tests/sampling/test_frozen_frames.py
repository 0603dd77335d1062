"""Latent frames that are given stay to the bit, and the others become what they would if those were noised too."""

import weakref
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from small_model import TEXT_DIM, clips, config_of, random_model

from holo_lite.model.clip import Clip
from holo_lite.model.equations import guide
from holo_lite.model.layers import TextRows
from holo_lite.sampling.sampler import Context, Guidance, initial_noise, sample
from holo_lite.sampling.schedule import Schedule
from holo_lite.sampling.step_cache import StepCache
from holo_lite.story.shots import ShotLayout

STEPS = Schedule.of(4)
SCALE = 3.0
EXPERTS = {name: random_model(config_of(), seed) for seed, name in enumerate(("high_noise", "low_noise"))}


class Lender:
    """Both experts, always there."""

    @contextmanager
    def lend(self, expert):
        yield EXPERTS[expert]

    def skip(self, expert, forwards):
        pass


class Noised:
    """Frozen frames as an expert sees them: (1 - s)·x0 + s·ε, s = κ·σ."""

    def __init__(self, clean, noise, frozen, kappa):
        self.clean, self.noise, self.frozen, self.kappa = clean, noise, sorted(frozen), kappa

    def __call__(self, latents, step):
        seen, s = latents.clone(), self.kappa * step.sigma
        seen[:, self.frozen] = (1 - s) * self.clean[:, self.frozen] + s * self.noise[:, self.frozen]
        return seen


def normal(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def guidance():
    positive, negative = normal(2, 20, TEXT_DIM, seed=5)
    return Guidance(Context(positive), Context(negative), SCALE)


def by_the_book(noise, noised, clip):
    """Frozen frames overwritten before every forward and after the last, and all frames moved in between."""
    x, clip = noise.clone(), replace(clip, frozen=frozenset())
    for step in STEPS:
        x, model = noised(x, step), EXPERTS[step.expert]
        with torch.inference_mode():
            texts = [TextRows(model.embed_text(context.rows)) for context in guidance().contexts]
            positive, negative = model(x, torch.tensor(step.timestep), texts, clip)
            velocity = guide(positive, negative, SCALE)
        x = x + velocity * (step.sigma_next - step.sigma)
    x[:, noised.frozen] = noised.clean[:, noised.frozen]
    return x


def case(clip, frozen, kappa=1.0):
    """The clip, latents to begin with, and what is given."""
    clip, noise = replace(clip, frozen=frozenset(frozen)), initial_noise(clip, 7)
    noised = Noised(normal(*noise.shape, seed=9), noise, frozen, kappa)
    begun = noise.clone()
    begun[:, noised.frozen] = noised.clean[:, noised.frozen]
    return clip, noise, begun, noised


@settings(max_examples=15, deadline=None)
@given(clip=clips(), data=st.data(), kappa=st.sampled_from([1.0, 0.5]), joint=st.booleans())
def test_frozen_frames_stay_and_the_others_see_them_at_the_noise_of_the_step(clip, data, kappa, joint):
    frozen = data.draw(st.sets(st.integers(0, clip.layout.latent_frames - 1)))
    clip, noise, begun, noised = case(clip, frozen, kappa)
    states = list(sample(Lender(), begun, guidance(), STEPS, clip, joint=joint, given=noised))
    for state in states:
        for latents in (state.latents, state.clean):
            assert torch.equal(latents[:, noised.frozen], noised.clean[:, noised.frozen])
    expected = by_the_book(noise, noised, clip)
    assert (states[-1].latents - expected).norm() <= 1e-5 * expected.norm()


def test_steps_that_a_cache_saves_leave_frozen_frames_alone():
    clip, _, begun, noised = case(Clip(ShotLayout((0, 2), 4, 2, 3)), {0, 3})
    steps, cache = Schedule.of(12), StepCache.of((10.0, 10.0))
    skipped = 0
    for state in sample(Lender(), begun, guidance(), steps, clip, cache=cache, given=noised):
        cache.done(state.computed)
        skipped += state.skipped
        assert torch.equal(state.latents[:, noised.frozen], noised.clean[:, noised.frozen])
        assert not torch.equal(state.latents, begun)
    assert skipped > 0


@pytest.mark.parametrize("frozen", [set(), {0, 1, 2, 3}])
def test_nothing_frozen_is_as_ever_and_all_frozen_gives_the_input_back(frozen):
    clip, noise, begun, noised = case(Clip(ShotLayout((0, 2), 4, 2, 3)), frozen)
    *_, last = sample(Lender(), begun, guidance(), STEPS, clip, given=noised)
    *_, plain = sample(Lender(), noise, guidance(), STEPS, replace(clip, frozen=frozenset()))
    assert torch.equal(last.latents, begun if frozen else plain.latents)


def test_what_an_expert_sees_is_not_kept_until_the_next_step():
    """A copy of the latents a step long would be in no plan."""
    clip, _, begun, noised = case(Clip(ShotLayout((0, 2), 4, 2, 3)), {1})
    seen = []

    def watched(latents, step):
        shown = noised(latents, step)
        seen.append(weakref.ref(shown))
        return shown

    for _ in sample(Lender(), begun, guidance(), STEPS, clip, given=watched):
        assert seen[-1]() is None
