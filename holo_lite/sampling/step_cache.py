"""The step cache: a step whose velocity would be nearly the last one's is not computed.

What is reused is TeaCache's and MagCache's choice (arXiv 2411.19108, 2506.09045): the residual, what all blocks
together added to a branch's stream at the last computed step. It is added to the patches of the new latents, and
the head runs at the new timestep. Both guidance branches are skipped together.

When to skip, TeaCache reads from a polynomial and MagCache from a table, each calibrated on one model; for
HoloCine's experts there is neither. EasyCache's estimate (arXiv 2507.02860) needs none: how much the velocity
changes for a change of the latents was just seen, between the last two computed steps, and holds for a while. With
x and v of the last computed step s and of the one before, r,

    estimate(x) = |vₛ - vᵣ| / |xₛ - xᵣ| · |x - xₛ| / |vₛ|        |·| the sum of absolute values

is by what share of itself the velocity has changed since it was computed. A step is skipped while that is below the
expert's threshold. EasyCache adds up the path from step to step; here it is taken straight, which is the same on a
straight path, and so nothing is remembered of a step that was skipped.

Always computed are: the last step, which no later step can correct; an expert's first two, and the first two after
guidance ends, for what was seen before is of another velocity; and the one after `MOST_SKIPPED` in a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

import torch
from torch import Tensor

from holo_lite.config import Expert
from holo_lite.model.clip import Chunks
from holo_lite.sampling.schedule import Schedule, Step

USUAL = Chunks()
MOST_SKIPPED = 3  # steps in a row
RESIDUAL = "residual "  # a branch's, in a state that an earlier version saved


@dataclass(frozen=True)
class Computed:
    """The last step that was computed, as decisions need it.

    latents, velocity: (16, F, h, w), fp32, what went in and what came out, guidance included. rate: by what share
    of itself the velocity changes for one unit of the latents' distance; None: not seen yet. chunks: those it was
    computed in, on which its last bits depend.
    """

    step: Step
    branches: int
    latents: Tensor
    velocity: Tensor
    rate: float | None = None
    chunks: Chunks = USUAL

    def is_of(self, step: Step, branches: int) -> bool:
        """Whether a later step asks the same expert, and for as many branches."""
        return (self.step.expert, self.branches) == (step.expert, branches)

    def estimate(self, latents: Tensor) -> float | None:
        """By what share of itself the velocity has changed at these latents; None: not known."""
        return None if self.rate is None else self.rate * float(_distance(latents, self.latents))


@dataclass
class StepCache:
    """A threshold per expert (0: every step is computed), and what is kept of the last computed step.

    `residuals` are one a branch, (tokens, d) in the compute dtype. While a step is computed they are written to; a
    step that failed is computed again, and writes them again. `computed` is set by the caller, once
    a step is done (`done`): decisions before that do not see it. `whole`: the residuals are those of `computed`.

    Residuals are gigabytes, and are not saved with a run. They follow from the last computed step's latents: where
    a step that is skipped finds none, that step is computed again, which takes as long as this one would have.
    """

    thresholds: Mapping[Expert, float] = field(default_factory=lambda: dict.fromkeys(get_args(Expert), 0.0))
    computed: Computed | None = None
    residuals: list[Tensor] = field(default_factory=list)
    whole: bool = False

    @classmethod
    def of(cls, thresholds: tuple[float, float]) -> StepCache:
        """A cache with the high-noise and the low-noise expert's threshold."""
        high, low = thresholds
        return cls({"high_noise": high, "low_noise": low})

    def serves(
        self, computed: Computed | None, step: Step, latents: Tensor, branches: int, schedule: Schedule
    ) -> bool:
        """Whether a step can do without its forward: `latents` are what it begins with."""
        is_last = step.index == len(schedule) - 1
        if computed is None or not computed.is_of(step, branches) or is_last:
            return False
        if step.index - computed.step.index > MOST_SKIPPED:
            return False
        estimate = computed.estimate(latents)
        return estimate is not None and estimate < self.thresholds[step.expert]  # not so for NaN

    def done(self, computed: Computed | None) -> None:
        """A step is done, and this is what is known from here on."""
        self.computed, self.whole = computed, True

    def fit(self, chunks: Chunks) -> None:
        """Memory ran out, and chunks are smaller now: what must be computed again is so in these."""
        if self.computed is not None and not self.whole:
            self.computed = replace(self.computed, chunks=chunks)

    def after(
        self,
        before: Computed | None,
        step: Step,
        latents: Tensor,
        velocity: Tensor,
        branches: int,
        chunks: Chunks = USUAL,
    ) -> Computed | None:
        """What is known once a step is computed; None if its expert has no threshold."""
        if not self.thresholds[step.expert]:
            return None
        rate = None
        if before is not None and before.is_of(step, branches):
            moved = _distance(latents, before.latents) * torch.linalg.vector_norm(velocity, ord=1)
            rate = float(_distance(velocity, before.velocity) / moved)
        return Computed(step, branches, latents, velocity, rate, chunks)

    def room(
        self, expert: Expert, branches: int, shape: tuple[int, int], dtype: torch.dtype, device: torch.device
    ) -> list[Tensor]:
        """The residuals that a computed step is to fill, a stream's (tokens, d) each; none without a threshold.

        Those of a branch that is no longer computed are freed. From here on they are no step's, until one is done.
        """
        self.whole = False
        wanted = branches if self.thresholds[expert] else 0
        del self.residuals[wanted:]
        while len(self.residuals) < wanted:
            self.residuals.append(torch.empty(shape, dtype=dtype, device=device))
        return self.residuals

    def state(self) -> dict[str, Tensor | float]:
        """All that later steps depend on, to be saved once a step is done; empty before the first.

        Without the residuals, which follow from it.
        """
        done = self.computed
        if done is None:
            return {}
        return {
            "step": float(done.step.index),
            "branches": float(done.branches),
            **({} if done.rate is None else {"rate": done.rate}),
            "attention": float(done.chunks.attention),
            "feed_forward": float(done.chunks.feed_forward),
            "latents": done.latents,
            "velocity": done.velocity,
        }

    def restore(self, state: Mapping[str, Tensor | float], schedule: Schedule, device: torch.device) -> None:
        """Take up a state again, exactly: steps from here on are what they would have been.

        A state that an earlier version saved has the residuals, and not the chunks.
        """
        tensors = {name: value.to(device) for name, value in state.items() if isinstance(value, Tensor)}
        count = sum(name.startswith(RESIDUAL) for name in tensors)
        self.residuals = [tensors[f"{RESIDUAL}{branch}"] for branch in range(count)]
        self.whole = count > 0
        self.know(state, schedule, device)

    def know(self, state: Mapping[str, Tensor | float], schedule: Schedule, device: torch.device) -> None:
        """Take up what a state has of the last computed step; the residuals stay as they are."""
        tensors = {name: value.to(device) for name, value in state.items() if isinstance(value, Tensor)}
        numbers = {name: float(value) for name, value in state.items() if not isinstance(value, Tensor)}
        self.computed = None
        if state:
            step, branches = schedule.steps[int(numbers["step"])], int(numbers["branches"])
            rate = numbers.get("rate")
            attended = int(numbers.get("attention", USUAL.attention))
            chunks = Chunks(attended, int(numbers.get("feed_forward", USUAL.feed_forward)))
            self.computed = Computed(step, branches, tensors["latents"], tensors["velocity"], rate, chunks)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return torch.dist(a, b, p=1)
