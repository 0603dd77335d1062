"""An expert's adapters in main memory, ready to be added.

They take no part in streaming: a block's bytes are what its file says, and pass through ring and slots as if there
were no adapters. Factors are copied to the device for each use, during the computation before it; at a hundred
thousand tokens a block computes for a second, and its factors of rank 64 are 15 MB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from holo_lite.lora.adaptation import CHANGE, Adaptation
from holo_lite.lora.low_rank import LowRank
from holo_lite.model.linear import Linear
from holo_lite.streaming.lane import Buffer, Lane, PinError
from holo_lite.weights.alignment import aligned


@dataclass(frozen=True)
class HostAdapters:
    """Factors by weight, and whole changes (float32) by tensor, all in one buffer. `close` gives it back."""

    lane: Lane
    buffer: Buffer
    factors: Mapping[str, LowRank]
    changes: Mapping[str, Tensor]

    @classmethod
    def load(cls, adaptation: Adaptation, lane: Lane, dtype: torch.dtype, *, pinned: bool) -> HostAdapters:
        """Read an expert's adapters, factors in `dtype`; into pinned memory if wanted and available."""
        buffer = _host_buffer(lane, max(1, adaptation.nbytes(dtype.itemsize)), pinned=pinned)
        try:
            rest = _Rest(buffer.data)
            factors = {name: _factors(adaptation, name, rest, dtype) for name in adaptation.pairs}
            changes = {name: _change(adaptation, name, rest) for name in adaptation.changes}
        except BaseException:
            lane.free_host(buffer)
            raise
        return cls(lane, buffer, factors, changes)

    def hang(self, model: nn.Module) -> None:
        """Give the linear layers of an expert their factors."""
        for name, factors in self.factors.items():
            linear = model.get_submodule(name.removesuffix(".weight"))
            assert isinstance(linear, Linear), name
            linear.adapter = factors

    def changes_in(self, prefix: str) -> dict[str, Tensor]:
        """The changes of tensors whose names begin with `prefix`, by what follows it."""
        return {name[len(prefix) :]: change for name, change in self.changes.items() if name.startswith(prefix)}

    def close(self) -> None:
        """Give the memory back, once no copy out of it is under way."""
        self.lane.release_host(self.buffer)
        self.lane.free_host(self.buffer)


def _host_buffer(lane: Lane, nbytes: int, *, pinned: bool) -> Buffer:
    try:
        return lane.host_buffer(nbytes, pinned=pinned)
    except PinError:
        return lane.host_buffer(nbytes, pinned=False)


class _Rest:
    """What of a buffer is not taken yet."""

    def __init__(self, data: Tensor) -> None:
        self._data = data

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        nbytes = math.prod(shape) * dtype.itemsize
        taken, self._data = self._data[:nbytes], self._data[aligned(nbytes) :]
        return taken.view(dtype).view(shape)


def _factors(adaptation: Adaptation, name: str, rest: _Rest, dtype: torch.dtype) -> LowRank:
    rows, columns = adaptation.shapes[name]
    rank = adaptation.rank(name)
    up, down = rest.take((rows, rank), dtype), rest.take((rank, columns), dtype)
    return LowRank(up, down, adaptation.fill_factors(name, up, down))


def _change(adaptation: Adaptation, name: str, rest: _Rest) -> Tensor:
    change = rest.take(adaptation.shapes[name], CHANGE)
    adaptation.fill_change(name, change)
    return change
