"""One safetensors file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch

from holo_lite.weights.calls import read_rows
from holo_lite.weights.plain_header import FILLER, read_plain_header
from holo_lite.weights.samples import samples
from holo_lite.weights.weight_file import EVERYTHING, TensorEntry

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


class SafetensorsFile:
    """One safetensors file, its header checked.

    Raises `CheckpointError` when the file is missing, cut short, or its header contradicts its length.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header = read_plain_header(path)

    @cached_property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Shape, dtype and place of every tensor, declared gaps left out."""
        return {
            name: TensorEntry(entry.shape, DTYPES[entry.dtype], entry.offset)
            for name, entry in self._header.entries.items()
            if not name.startswith(FILLER)
        }

    @property
    def metadata(self) -> Mapping[str, str]:
        """What else the header says."""
        return self._header.metadata

    @cached_property
    def fingerprint(self) -> str:
        """The header and sixteen samples of the data."""
        digest = hashlib.sha256(self._header.sha256.encode())
        for sample in samples(self.path):
            digest.update(sample)
        return digest.hexdigest()

    def place(self, name: str) -> tuple[Path, int]:
        """The file a tensor is in, and the byte at which it begins."""
        return self.path, self.entries[name].offset

    def load(self, name: str, rows: slice = EVERYTHING) -> torch.Tensor:
        """Read one tensor, or rows of it."""
        return read_rows(self.path, self.entries[name], rows)
