"""The denoising schedule: at which noise levels the model is asked, and which expert answers.

A shifted linear schedule of rectified flow: s = ku/(1+(k-1)u) for u from 1 towards 0, timestep 1000·s, all in fp32
because the reference's are; k, the shift, is 5 for HoloCine and 12 for Wan 2.2. Libraries' schedulers apply the
shift twice or end elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from holo_lite.config import Expert
from holo_lite.errors import SettingsError
from holo_lite.sampling.bounds import MOST_STEPS

SHIFT = 5.0
BOUNDARY = 875.0  # timesteps from here on belong to the high-noise expert


@dataclass(frozen=True)
class Step:
    """One denoising step. sigma: noise level now; sigma_next: after it; timestep: 1000·sigma in fp32."""

    index: int
    sigma: float
    sigma_next: float
    timestep: float

    @property
    def expert(self) -> Expert:
        """Who answers: decided by the unrounded timestep."""
        return "high_noise" if self.timestep >= BOUNDARY else "low_noise"


@dataclass(frozen=True)
class Schedule:
    """All steps of a run."""

    steps: tuple[Step, ...]

    @classmethod
    def of(cls, count: int, shift: float = SHIFT) -> Schedule:
        """Build the schedule for a number of steps. Raises `SettingsError` outside 1…1000."""
        if not 1 <= count <= MOST_STEPS:
            raise SettingsError(f"steps {count}: give a number from 1 to {MOST_STEPS}")
        sigmas = shifted_sigmas(count, shift)
        timesteps = sigmas * np.float32(1000)
        following = [*sigmas[1:], np.float32(0)]
        rows = zip(sigmas, following, timesteps, strict=True)
        return cls(tuple(Step(i, float(s), float(n), float(t)) for i, (s, n, t) in enumerate(rows)))

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    @property
    def first_low_noise_step(self) -> int:
        """Index of the first step of the low-noise expert; the number of steps if there is none."""
        return sum(step.expert == "high_noise" for step in self.steps)

    def part(self, share: float) -> int:
        """How many steps, from the first on, are the nearest to a share of all of them; at least one."""
        return max(1, round(share * len(self)))


def shifted_sigmas(count: int, shift: float = SHIFT) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """linspace(1, 0, count+1) without its last, then s = ks/(1+(k-1)s) with the shift k. → (count,) fp32."""
    linear = _descend(count)
    k = np.float32(shift)
    return k * linear / (np.float32(1) + (k - np.float32(1)) * linear)


def _descend(count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The fp32 line from 1 towards 0 as PyTorch draws it: from both ends, each number rounded once."""
    stride = np.float64(np.float32(-1) / np.float32(count))
    index = np.arange(count)
    from_one, from_zero = 1 + stride * index, -stride * (count - index)
    return np.where(index < (count + 1) // 2, from_one, from_zero).astype(np.float32)
