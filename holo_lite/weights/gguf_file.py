"""GGUF: weights that someone already made small, opened like any other file of weights.

A tensor in GGUF is a row of blocks, each a few scales and the numbers in few bits. The gguf package turns
blocks into numbers; this module finds them, and turns no more at once than a slice of rows, so that the
largest tensor costs its own size in memory and not three times that.

GGUF keeps at most four dimensions and forgets leading ones of size 1. Converters for ComfyUI note a shape
they changed in the metadata; a modulation, (1, 6, d), is known here by its name.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from holo_lite.errors import CheckpointError
from holo_lite.weights.calls import read_rows
from holo_lite.weights.gguf_header import GgufHeader, GgufTensor, read_gguf_header
from holo_lite.weights.samples import samples
from holo_lite.weights.weight_file import EVERYTHING, TensorEntry

PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
PACKED = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
ORIGINAL_SHAPE = "comfy.gguf.orig_shape."
LOST_DIMENSION = ("modulation", "scale_shift_table")
SLICE = 2**22  # numbers that are unpacked at once


@dataclass(frozen=True)
class Packing:
    """How a tensor's numbers lie: blocks of `count` numbers in `nbytes` bytes."""

    name: str
    kind: Any  # the gguf package's number of the type
    count: int
    nbytes: int


class GgufFile:
    """One GGUF file, a `WeightFile`. Entries give the shape a model knows, and the dtype `load` returns.

    Raises `CheckpointError` for a file that is damaged, cut short, or holds a type not known here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header = read_gguf_header(path)
        self._header_bytes = header.nbytes
        self._tensors = header.tensors
        self._packings = {name: _packing(path, name, tensor) for name, tensor in header.tensors.items()}
        self.entries = {name: self._entry(name, header) for name in header.tensors}

    @cached_property
    def fingerprint(self) -> str:
        """The header and sixteen samples of the data."""
        with self.path.open("rb") as file:
            digest = hashlib.sha256(file.read(self._header_bytes))
        for sample in samples(self.path):
            digest.update(sample)
        return digest.hexdigest()

    @cached_property
    def packed(self) -> frozenset[str]:
        """Names of the tensors that do not lie in the file as numbers."""
        return frozenset(name for name, packing in self._packings.items() if packing.name not in PLAIN)

    def load(self, name: str, rows: slice = EVERYTHING) -> torch.Tensor:
        """Read one tensor, or rows of it: as it is where it is F32, F16 or BF16, else unpacked to float32."""
        entry = self.entries[name]
        if name not in self.packed:
            return read_rows(self.path, entry, rows)
        if rows == EVERYTHING:
            return self._unpack_all(name).view(entry.shape)
        row, (start, stop, _) = math.prod(entry.shape[1:]), rows.indices(entry.shape[0])
        if start >= stop or row % self._packings[name].count:
            return self.load(name)[rows]
        return self._unpack(name, range(start * row, stop * row)).view(-1, *entry.shape[1:])

    def _unpack_all(self, name: str) -> torch.Tensor:
        numbers = torch.empty(math.prod(self.entries[name].shape))
        for part in self._parts(name):
            numbers[part.start : part.stop] = self._unpack(name, part)
        return numbers

    def _unpack(self, name: str, numbers: range) -> torch.Tensor:
        """Read and unpack some of a tensor's numbers, whole blocks of them."""
        packing, place = self._packings[name], self._tensors[name].offset
        first, last = numbers.start // packing.count, numbers.stop // packing.count
        stored = TensorEntry((last - first, packing.nbytes), torch.uint8, place + first * packing.nbytes)
        blocks = read_rows(self.path, stored)
        rows = blocks.view(_rows(last - first), -1)
        return torch.from_numpy(dequantize(rows.numpy(), packing.kind)).flatten()

    def _parts(self, name: str) -> Iterator[range]:
        """Cut a tensor into slices of whole blocks: every known block divides 256 numbers, and so a slice."""
        size = math.prod(self.entries[name].shape)
        for start in range(0, size, SLICE):
            yield range(start, min(start + SLICE, size))

    def _entry(self, name: str, header: GgufHeader) -> TensorEntry:
        tensor, packing = header.tensors[name], self._packings[name]
        stored = math.prod(tensor.shape)
        if tensor.offset + stored // packing.count * packing.nbytes > header.file_nbytes:
            raise CheckpointError(f"{self.path}: is cut short within tensor {name}; download it again")
        dtype = PLAIN.get(packing.name, torch.float32)
        return TensorEntry(_shape(self.path, name, header), dtype, tensor.offset)


def _packing(path: Path, name: str, tensor: GgufTensor) -> Packing:
    """Look up a tensor's type and hold its dimensions against it."""
    known = {GGMLQuantizationType[kind].value: kind for kind in (*PLAIN, *PACKED)}
    if tensor.kind not in known:
        found = {kind.value: kind.name for kind in GGMLQuantizationType}.get(tensor.kind, tensor.kind)
        raise CheckpointError(
            f"{path}: tensor {name} is {found}, which holo-lite cannot read; get one of {', '.join(PACKED)}"
        )
    kind = GGMLQuantizationType[known[tensor.kind]]
    count, nbytes = GGML_QUANT_SIZES[kind]
    if not math.prod(tensor.shape) or tensor.shape[-1] % count:
        raise CheckpointError(f"{path}: the shape of tensor {name} contradicts its type; download it again")
    return Packing(kind.name, kind, count, nbytes)


def _shape(path: Path, name: str, header: GgufHeader) -> tuple[int, ...]:
    """The shape a model knows: the one noted in the metadata, or the stored one with what GGUF dropped."""
    stored = header.tensors[name].shape
    noted = header.metadata.get(ORIGINAL_SHAPE + name)
    if noted is None:
        return (1, *stored) if len(stored) == 2 and name.endswith(LOST_DIMENSION) else stored
    shape = tuple(size for size in noted if type(size) is int) if isinstance(noted, list) else ()
    if math.prod(shape) != math.prod(stored) or min(shape, default=0) < 1:
        raise CheckpointError(f"{path}: the shape noted for tensor {name} is not its size; download it again")
    return shape


def _rows(blocks: int) -> int:
    """Into how many rows to lay blocks out: the gguf package works on sixteen rows at a time."""
    return next((rows for rows in (1024, 256, 64, 16) if blocks % rows == 0), 1)
