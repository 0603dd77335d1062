"""The sampler: an Euler loop over the schedule that hands out its state after every step.

It is a generator, so whoever drives it has progress, previews, checkpoints and cancelling for nothing:
take the steps you want, keep what you like of them, stop when you please. It never sees a file, and knows
of the experts only that someone lends it the right one.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from holo_lite.model.clip import Clip
from holo_lite.model.dit import WanDiT
from holo_lite.model.equations import clean_estimate, euler, guide
from holo_lite.model.layers import TextRows
from holo_lite.schedule import Expert, Schedule, Step


@dataclass(frozen=True)
class Context:
    """A prompt as the text encoder left it: rows (512, text_dim), zero after EOS, and its windows."""

    rows: Tensor
    windows: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class Guidance:
    """What steers a run. Without `negative`, or at scale 1, one branch is enough."""

    positive: Context
    negative: Context | None = None
    scale: float = 1.0

    @property
    def contexts(self) -> list[Context]:
        """The branches to compute."""
        if self.negative is None or self.scale == 1.0:
            return [self.positive]
        return [self.positive, self.negative]

    def combine(self, velocities: list[Tensor]) -> Tensor:
        """One velocity from those of the branches."""
        positive, *negative = velocities
        return guide(positive, negative[0], self.scale) if negative else positive


@dataclass(frozen=True)
class Progress:
    """State after a step: the latents, and where they would end if the flow went straight on."""

    step: Step
    steps: int
    latents: Tensor  # (16, F, h, w) fp32
    clean: Tensor  # (16, F, h, w) fp32


class Experts(Protocol):
    """Whoever holds the two experts' weights."""

    def lend(self, expert: Expert) -> AbstractContextManager[WanDiT]:
        """Give an expert that is ready to run, for as long as the context lasts."""


def initial_noise(clip: Clip, seed: int, channels: int = 16) -> Tensor:
    """Standard normal latents (channels, F, h, w), fp32, the same on every device for a seed."""
    layout = clip.layout
    shape = (1, channels, layout.latent_frames, 2 * layout.rows, 2 * layout.columns)
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32)[0]


def sample(
    experts: Experts,
    latents: Tensor,
    guidance: Guidance,
    schedule: Schedule,
    clip: Clip,
    *,
    joint: bool = True,
    first: int = 0,
) -> Generator[Progress, None, None]:
    """Denoise latents (16, F, h, w), fp32, on the experts' device, yielding after each step.

    `joint` serves both guidance branches in one visit of each block; otherwise they run one after the
    other, in half the memory, with the same result. `first` goes on from the state after step first - 1.
    """
    assert 0 <= first <= len(schedule), f"first: {first}"
    remaining = schedule.steps[first:]
    for expert in dict.fromkeys(step.expert for step in remaining):
        with experts.lend(expert) as model:
            texts = [TextRows(model.embed_text(context.rows), context.windows) for context in guidance.contexts]
            for step in (step for step in remaining if step.expert == expert):
                velocity = guidance.combine(_velocities(model, latents, step, texts, clip, joint))
                clean = clean_estimate(latents, velocity, step.sigma)
                latents = euler(latents, velocity, step.sigma, step.sigma_next)
                yield Progress(step, len(schedule), latents, clean)
            del model, texts  # or this expert would stand beside the next one while that is opened


def _velocities(
    model: WanDiT, latents: Tensor, step: Step, texts: list[TextRows], clip: Clip, joint: bool
) -> list[Tensor]:
    timestep = torch.tensor(step.timestep, dtype=torch.float32, device=latents.device)
    with torch.inference_mode():
        if joint:
            return model(latents, timestep, texts, clip)  # type: ignore[no-any-return]
        return [model(latents, timestep, [text], clip)[0] for text in texts]
