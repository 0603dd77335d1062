"""The two experts' weights: which one stands in memory, and for how long.

The sampler borrows one expert at a time. Here it is opened when it is borrowed and dropped when it is given
back: on the CPU its weights stay mapped from the file, on a GPU they are copied there whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from holo_lite.model.compute import PLAIN, Compute
from holo_lite.model.dit import WanDiT
from holo_lite.model.load import load_expert
from holo_lite.schedule import Expert


@dataclass(frozen=True)
class FileExperts:
    """Experts opened from their files, one at a time."""

    high_noise: Path
    low_noise: Path
    dtype: torch.dtype
    device: torch.device
    compute: Compute = PLAIN

    @contextmanager
    def lend(self, expert: Expert) -> Iterator[WanDiT]:
        """Open an expert for as long as the context lasts."""
        path = self.high_noise if expert == "high_noise" else self.low_noise
        yield load_expert(path, dtype=self.dtype, device=self.device, compute=self.compute)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
