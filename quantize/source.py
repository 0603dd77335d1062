"""A file of any kind as what the converter wants: finite tensors under the model's own names.

A checkpoint may have been through other tools: its weights in 8-bit floats with a scale for each, its names
prefixed, its shape that of GGUF. And the person may want adapters merged into it. All of that ends here; what
comes out is plain tensors, and the rest of the converter knows of one kind of input.

Nothing is held: a tensor is read when it is asked for, and where it must be computed, that happens in slices of
rows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from holo_lite.errors import CheckpointError, first_three
from holo_lite.lora.terms import Lora
from holo_lite.weights.finite import check_finite
from holo_lite.weights.names import own_names
from holo_lite.weights.weight_file import EVERYTHING, TensorEntry, WeightFile
from quantize.scales import Scaling, find_scalings

SLICE = 2**24  # numbers that are computed at once: 64 MiB in float32
FLOATS = (torch.float16, torch.bfloat16, torch.float32)
Naming = Callable[[Iterable[str]], Mapping[str, str]]


@runtime_checkable
class PackedFile(Protocol):
    """A file some of whose tensors must be unpacked."""

    @property
    def packed(self) -> frozenset[str]:
        """Names of the tensors that do not lie in the file as numbers."""


@dataclass(frozen=True)
class Origin:
    """Where a tensor comes from: its name in the file, what the file says of it, and what scales it."""

    name: str
    entry: TensorEntry
    scaling: Scaling | None


class Source:
    """One component's file, a `WeightFile` in the model's own names, adapters merged in.

    `names` maps the names in the file to the model's. Raises `CheckpointError` for tensors that hold no
    floating-point numbers, scales of a shape not known here, and adapters that do not fit.
    """

    def __init__(self, file: WeightFile, names: Naming = own_names, loras: Sequence[Lora] = ()) -> None:
        self.file = file
        self.loras = tuple(loras)
        visible, scalings = find_scalings(file)
        renames = names(visible)
        self._origins = {
            renames.get(name, name): Origin(name, file.entries[name], scalings.get(name)) for name in visible
        }
        _check_floats(file, self._origins.values())
        for lora in self.loras:
            lora.check({name: origin.entry.shape for name, origin in self._origins.items()})

    @property
    def path(self) -> Path:
        """The file, or the index of its shards."""
        return self.file.path

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the content, adapters included, that costs no full read."""
        if not self.loras:
            return self.file.fingerprint
        parts = [self.file.fingerprint, *(f"{lora.file.fingerprint} {lora.strength}" for lora in self.loras)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @cached_property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Shape and dtype of every tensor as `load` gives it, by the model's names."""
        return {name: TensorEntry(o.entry.shape, self._dtype(name)) for name, o in self._origins.items()}

    def load(self, name: str, rows: slice = EVERYTHING) -> Tensor:
        """Read or compute one tensor, or rows of it, without computing the others.

        Raises `CheckpointError` naming the tensor if it holds NaN or Inf.
        """
        if self._is_as_stored(name):
            return self._checked(name, self.file.load(self._origins[name].name, rows))
        if rows != EVERYTHING:
            return self._computed(name, rows)
        out = torch.empty(self.entries[name].shape, dtype=self.entries[name].dtype)
        for some in row_slices(tuple(out.shape)):
            _by_rows(out)[some] = self._computed(name, some)
        return out

    def _computed(self, name: str, rows: slice) -> Tensor:
        """Rows of a tensor that something changes."""
        origin = self._origins[name]
        raw = self.file.load(origin.name, rows if origin.entry.shape else EVERYTHING)
        values = _by_rows(raw).float() if origin.scaling is None else origin.scaling.apply(_by_rows(raw), rows)
        self._checked(name, values)
        for lora in self.loras:
            if (delta := lora.delta(name, rows)) is not None:
                values += delta
        return self._checked(name, values.to(self.entries[name].dtype))

    def _is_as_stored(self, name: str) -> bool:
        """Whether a tensor is wanted just as it lies in the file."""
        origin = self._origins[name]
        packed = isinstance(self.file, PackedFile) and origin.name in self.file.packed
        changed = origin.scaling is not None or any(name in lora.terms for lora in self.loras)
        return not packed and not changed and origin.entry.dtype in FLOATS

    def _dtype(self, name: str) -> torch.dtype:
        """float32 stays, and 16 bits that nothing changes; all else is given in bfloat16."""
        origin = self._origins[name]
        if origin.entry.dtype in (torch.float32, torch.float64):
            return torch.float32
        return origin.entry.dtype if self._is_as_stored(name) else torch.bfloat16

    def _checked(self, name: str, tensor: Tensor) -> Tensor:
        check_finite(tensor, f"{self.path}: tensor {name}")
        return tensor


def _by_rows(tensor: Tensor) -> Tensor:
    """A tensor of at least one dimension."""
    return tensor if tensor.ndim else tensor[None]


def row_slices(shape: tuple[int, ...]) -> Iterator[slice]:
    """Cut a shape into slices of rows of about `SLICE` numbers."""
    count, row = (shape[0], math.prod(shape[1:])) if shape else (1, 1)
    step = max(1, SLICE // max(1, row))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _check_floats(file: WeightFile, origins: Iterable[Origin]) -> None:
    wrong = [
        f"{origin.name} ({str(origin.entry.dtype).removeprefix('torch.')})"
        for origin in origins
        if not origin.entry.dtype.is_floating_point
    ]
    if wrong:
        raise CheckpointError(
            f"{file.path}: holds no floating-point numbers in {first_three(wrong)}; take the bf16 or fp8 file"
        )
