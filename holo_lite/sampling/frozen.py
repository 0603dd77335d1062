"""Latent frames that are given: what an expert sees in their place, and how they come into a run's latents.

Where x0 are the clean latents of a frozen frame and ε is the run's own initial noise there, an expert sees
(1 - s)·x0 + s·ε with s = κ·σ, before every forward. The latents themselves hold x0 from beginning to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from holo_lite.model.equations import noised
from holo_lite.sampling.schedule import Step


@dataclass(frozen=True)
class FrozenLatents:
    """The frozen frames of a clip: their numbers, ascending; clean and noise: (16, n, h, w) fp32, on one device."""

    frames: tuple[int, ...]
    clean: Tensor
    noise: Tensor
    kappa: float

    @classmethod
    def of(cls, frames: Sequence[int], clean: Tensor, noise: Tensor, kappa: float) -> FrozenLatents:
        """Frozen frames of a run that begins with `noise` (16, F, h, w), on whose device they will be."""
        chosen = tuple(sorted(frames))
        assert clean.shape[1] == len(chosen), f"{clean.shape[1]} latents for {len(chosen)} frames"
        here = torch.tensor(chosen, dtype=torch.long, device=noise.device)
        return cls(chosen, clean.to(noise), noise.index_select(1, here), kappa)

    def put_into(self, latents: Tensor) -> Tensor:
        """A copy of latents (16, F, h, w) with the given ones in their places."""
        return self._placed(latents, self.clean)

    def seen(self, latents: Tensor, step: Step) -> Tensor:
        """Latents (16, F, h, w) as an expert sees them at a step."""
        return self._placed(latents, noised(self.clean, self.noise, self.kappa * step.sigma))

    def _placed(self, latents: Tensor, given: Tensor) -> Tensor:
        return latents.index_copy(1, torch.tensor(self.frames, dtype=torch.long, device=latents.device), given)
