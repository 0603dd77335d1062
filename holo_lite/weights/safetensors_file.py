"""One safetensors file, mapped."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch

from holo_lite.weights.header import Header, TensorEntry, read_header
from holo_lite.weights.mapping import check_length, map_file, samples
from holo_lite.weights.plain_header import FILLER


class SafetensorsFile:
    """One safetensors file, its header checked against its length.

    It is mapped here and not by safetensors, which asks Linux to set aside as much memory as the file is
    long: with 28 GB a file that is refused on a computer of 16 GB, though nothing is going to be copied.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header: Header = read_header(path)
        self._bytes = map_file(path)

    @cached_property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Shape, dtype and place of every tensor, declared gaps left out."""
        return {name: entry for name, entry in self._header.entries.items() if not name.startswith(FILLER)}

    @cached_property
    def fingerprint(self) -> str:
        """The header and sixteen samples of the data."""
        digest = hashlib.sha256(self._header.sha256.encode())
        for sample in samples(self.path):
            digest.update(sample)
        return digest.hexdigest()

    def place(self, name: str) -> tuple[Path, int]:
        """The file a tensor is in, and the byte at which it begins."""
        return self.path, self._header.entries[name].offset

    def load(self, name: str) -> torch.Tensor:
        """Map one tensor: pages are read when they are first touched."""
        entry = self._header.entries[name]
        if not entry.nbytes:
            return torch.empty(entry.shape, dtype=entry.dtype)
        check_length(self.path, len(self._bytes))
        numbers = math.prod(entry.shape)
        return torch.frombuffer(self._bytes, dtype=entry.dtype, count=numbers, offset=entry.offset).view(
            entry.shape
        )
