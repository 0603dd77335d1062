"""Writing safetensors whose tensors lie where a reader wants them.

The format's own writer orders tensors by dtype and name. A shard here keeps the order it is given, so that a
block's tensors can be read in one piece and used as views into it: data begins at a multiple of 4096 bytes,
every tensor at a multiple of 256, and so does the end of the file at 4096. The gaps are declared as tensors
of their own (``filler.N``), since readers reject holes. Every safetensors reader opens the result.

A shard is written under a temporary name and renamed when all of it is on the disk, so that under its own name
it is whole or not there.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from holo_lite.system.outputs import partial_name, writing
from holo_lite.system.whole_files import Draft, make_folder
from holo_lite.weights.alignment import ALIGNMENT, PAGE
from holo_lite.weights.plain_header import FILLER
from holo_lite.weights.safetensors_file import DTYPES

PIECE = 32 * 2**20  # bytes handed to the system at once
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to come: its name, shape and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """The tensor's size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class ShardLayout:
    """A shard's bytes before any of its data is known: header, and the tensors with their fillers in order."""

    header: bytes
    places: tuple[tuple[TensorSpec, int], ...]  # tensors, and the bytes of filler behind each
    nbytes: int


def lay_out(specs: Sequence[TensorSpec], metadata: Mapping[str, str] | None = None) -> ShardLayout:
    """Work out a shard for tensors in this order, whose names are all different and none a filler's."""
    names = {spec.name for spec in specs}
    assert len(names) == len(specs), "two tensors have one name"
    assert not any(name.startswith((FILLER, "__")) for name in names), "a name means something else in a header"
    entries: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    places, place = [], 0
    for index, spec in enumerate(specs):
        entries[spec.name] = _entry(spec, place)
        last = index == len(specs) - 1
        end = place + spec.nbytes
        gap = -end % (PAGE if last else ALIGNMENT)
        if gap:
            entries[f"{FILLER}{index}"] = _entry(TensorSpec("", (gap,), torch.uint8), end)
        places.append((spec, gap))
        place = end + gap
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % PAGE)
    header = struct.pack("<Q", len(text)) + text
    return ShardLayout(header, tuple(places), len(header) + place)


class ShardWriter:
    """Writes one shard, tensor by tensor in the order of its layout; a context manager.

    After a clean exit the file has its final name and `sha256` is its hash. After an exception nothing of it
    is left. Raises `OutputError` when the disk is full or the place cannot be written.
    """

    def __init__(self, path: Path, specs: Sequence[TensorSpec], metadata: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.layout = lay_out(specs, metadata)
        self._draft = Draft(path, partial_name(path))
        self._file: FileIO | None = None
        self._digest = hashlib.sha256()
        self._left = list(self.layout.places)
        self._filled = 0  # bytes of the first tensor left that are written

    @property
    def sha256(self) -> str:
        """Hash of everything written so far."""
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        try:
            with writing(self.path):
                make_folder(self.path.parent)
                self._draft.begin()
                self._file = self._draft.partial.open("wb", buffering=0)
            self._write(self.layout.header)
        except BaseException:
            self._discard()
            raise
        return self

    def add(self, rows: torch.Tensor) -> None:
        """Write the next tensor of the layout, or the next rows of it, in the layout's dtype.

        Behind the last rows goes the filler.
        """
        spec, gap = self._left[0]
        assert tuple(rows.shape[1:]) == spec.shape[1:], f"{spec.name}: {tuple(rows.shape)}, not {spec.shape}"
        for piece in _pieces(rows, spec.dtype):
            self._write(piece)
            self._filled += piece.nbytes
        assert self._filled <= spec.nbytes, f"{spec.name}: {self._filled} bytes, not {spec.nbytes}"
        if self._filled == spec.nbytes:
            self._write(bytes(gap))
            self._left.pop(0)
            self._filled = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def _finish(self) -> None:
        assert not self._left, f"{self._left[0][0].name} was never written"
        with writing(self.path):
            self._close()
            self._draft.keep()

    def _discard(self) -> None:
        """Leave nothing under the temporary name; there is nothing any more once the file has its own."""
        with suppress(OSError):
            self._close()
        self._draft.discard()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, piece: bytes | memoryview) -> None:
        assert self._file is not None, "within the context"
        self._digest.update(piece)
        left = memoryview(piece)
        with writing(self.path):
            while left:
                left = left[self._file.write(left) :]


def _entry(spec: TensorSpec, place: int) -> dict[str, object]:
    offsets = [place, place + spec.nbytes]
    return {"dtype": DTYPE_NAMES[spec.dtype], "shape": list(spec.shape), "data_offsets": offsets}


def _pieces(tensor: torch.Tensor, dtype: torch.dtype) -> Iterator[memoryview]:
    """The bytes of a tensor on any device, a bounded number at a time."""
    flat = tensor.reshape(-1)
    step = max(1, PIECE // max(flat.element_size(), dtype.itemsize))
    for start in range(0, flat.numel(), step):
        part = flat[start : start + step].to(device="cpu", dtype=dtype)
        raw: Any = part.view(torch.uint8).numpy()
        yield memoryview(raw)
