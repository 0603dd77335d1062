"""The two experts' weights: which one is in memory, and for how long.

The sampler borrows one expert at a time. Here it is read whole when it is borrowed and dropped when it is given
back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from holo_lite.config import Expert
from holo_lite.lora.adaptation import Adaptation
from holo_lite.model.compute import PLAIN, Compute
from holo_lite.model.dit import WanDiT
from holo_lite.model.load import load_expert
from holo_lite.streaming.hooks import install
from holo_lite.streaming.host_adapters import HostAdapters
from holo_lite.streaming.lanes import lane_for


@dataclass(frozen=True)
class FileExperts:
    """Experts opened from their files, one at a time."""

    high_noise: Path
    low_noise: Path
    dtype: torch.dtype
    device: torch.device
    compute: Compute = PLAIN
    adapters: Mapping[Expert, Adaptation] = field(default_factory=dict)

    @classmethod
    def of(
        cls, paths: Mapping[Expert, Path], dtype: torch.dtype, device: torch.device, **options: Any
    ) -> FileExperts:
        """The experts whose files these are."""
        return cls(paths["high_noise"], paths["low_noise"], dtype, device, **options)

    @contextmanager
    def lend(self, expert: Expert) -> Iterator[WanDiT]:
        """Open an expert for as long as the context lasts."""
        path = self.high_noise if expert == "high_noise" else self.low_noise
        model = load_expert(path, dtype=self.dtype, device=self.device, compute=self.compute)
        if expert in self.adapters:
            self._adapt(model, self.adapters[expert])
        yield model
        del model
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def skip(self, expert: Expert, forwards: int) -> None:
        """Whole experts have nothing on its way."""

    def _adapt(self, model: WanDiT, adaptation: Adaptation) -> None:
        """Hang adapters, in plain memory, on an expert."""
        hosted = HostAdapters.load(adaptation, lane_for(self.device), self.dtype, pinned=False)
        hosted.hang(model)
        install(model, {name: model.get_parameter(name) for name in hosted.changes}, self.dtype, hosted.changes)
