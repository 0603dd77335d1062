"""Runs of small random experts that save forwards, and the same written slowly, for tests.

`slow_run` shares no code with the product but the schedule: whole tensors, the formulas of the step cache's
docstring word by word, every velocity by the oracle.
"""

from contextlib import contextmanager
from dataclasses import replace

import oracle
import torch
from small_model import TEXT_DIM, config_of, random_model

from holo_lite.model.clip import Chunks, Clip
from holo_lite.sampling.frozen import FrozenLatents
from holo_lite.sampling.sampler import Context, Guidance, initial_noise, sample
from holo_lite.sampling.schedule import Schedule
from holo_lite.sampling.step_cache import StepCache
from holo_lite.story.shots import ShotLayout

EXPERTS = ("high_noise", "low_noise")
CONFIG = config_of(layers=2)
MODELS = {expert: random_model(CONFIG, seed) for seed, expert in enumerate(EXPERTS)}
CLIP = Clip(ShotLayout((0, 2), 4, 2, 3), "sparse", Chunks(1024, 512))
SCHEDULE = Schedule.of(10)
SWITCH = SCHEDULE.first_low_noise_step
SCALE = 3.0
NOTHING_FROZEN = oracle.Frozen()
ROWS = torch.randn(2, 512, TEXT_DIM, generator=torch.Generator().manual_seed(3))


class Whole:
    """Lends the experts whole, and writes down for how many branches each forward and each skip is."""

    def __init__(self):
        self.branches, self.skips, self.embedded = [], [], []

    @contextmanager
    def lend(self, expert):
        model = MODELS[expert]
        embed = model.embed_text
        handle = model.register_forward_hook(lambda _, given, __: self.branches.append(len(given[2])))
        model.embed_text = lambda rows: self.embedded.append(expert) or embed(rows)
        try:
            yield model
        finally:
            handle.remove()
            del model.embed_text

    def skip(self, expert, forwards):
        self.skips.append((expert, forwards))


def guidance(until=1.0, scale=SCALE):
    return Guidance(Context(ROWS[0]), Context(ROWS[1]), scale, until)


def frozen_frames(frames, kappa=0.5):
    """These frames given, with the noise of both runs."""
    noise = initial_noise(CLIP, 1)
    clean = torch.randn(noise.shape, generator=torch.Generator().manual_seed(9))
    return oracle.Frozen(frames, clean, noise, kappa)


def fast_run(experts, steering=None, thresholds=(0.0, 0.0), frozen=NOTHING_FROZEN, **options):
    """Every step's progress."""
    cache, clip, noise = StepCache.of(thresholds), CLIP, initial_noise(CLIP, 1)
    if frozen.frames:
        given = FrozenLatents.of(frozen.frames, frozen.clean[:, frozen.frames], noise, frozen.kappa)
        clip, noise = replace(CLIP, frozen=frozenset(frozen.frames)), given.put_into(noise)
        options["given"] = given.seen
    return list(sample(experts, noise, steering or guidance(), SCHEDULE, clip, cache=cache, **options))


def slow_run(thresholds=(0.0, 0.0), until=1.0, most_skipped=3, frozen=NOTHING_FROZEN):
    """Every step's latents, and whether it was skipped."""
    x, found, computed = (
        frozen.kept(initial_noise(CLIP, 1)),
        [],
        [],
    )  # computed: (step, branches, latents, velocity, residuals)
    for step in SCHEDULE:
        branches = 2 if step.index < until * len(SCHEDULE) else 1
        near = [each for each in computed if (each[0].expert, each[1]) == (step.expert, branches)]
        threshold = thresholds[EXPERTS.index(step.expert)]
        skipped = may_skip(step, near, x, threshold, most_skipped)
        seen = frozen.seen(x, step.sigma)
        residuals = near[-1][4] if skipped else [residual(step, seen, rows) for rows in ROWS[:branches]]
        velocities = [from_residual(step, seen, each) for each in residuals]
        v = velocities[0]
        if branches == 2:
            v = velocities[1] + SCALE * (velocities[0] - velocities[1])
        v = frozen.still(v)
        if not skipped:
            computed.append((step, branches, x, v, residuals))
        x = x + v * (step.sigma_next - step.sigma)
        found.append((x, skipped))
    return found


def may_skip(step, near, x, threshold, most_skipped):
    if len(near) < 2 or step.index == len(SCHEDULE) - 1 or step.index - near[-1][0].index > most_skipped:
        return False
    (_, _, x_r, v_r, _), (_, _, x_s, v_s, _) = near[-2:]
    size = lambda tensor: tensor.double().abs().sum()  # noqa: E731 - the norm of the docstring
    return bool(size(v_s - v_r) / size(x_s - x_r) * size(x - x_s) / size(v_s) < threshold)


def residual(step, x, rows):
    weights = MODELS[step.expert].state_dict()
    before, temb, grid = oracle.embed(weights, CONFIG, x, torch.tensor(step.timestep))
    after = oracle.through_blocks(weights, CONFIG, before, temb, grid, rows, CLIP.layout, None, sparse=True)
    return after - before


def from_residual(step, x, added):
    weights = MODELS[step.expert].state_dict()
    before, temb, grid = oracle.embed(weights, CONFIG, x, torch.tensor(step.timestep))
    return oracle.head(weights, CONFIG, before + added, temb, grid)
