"""What every kind of file of weights can be asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

EVERYTHING = slice(None)


@dataclass(frozen=True)
class TensorEntry:
    """What a file says of one tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int = 0  # bytes from the start of the file; 0 where the format does not say

    @property
    def nbytes(self) -> int:
        """The tensor's size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class WeightFile(Protocol):
    """Named tensors in a file; nothing is read before `load`."""

    @property
    def path(self) -> Path:
        """The file, or the index of its shards."""

    @property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Shape and dtype of every tensor, by name."""

    @property
    def fingerprint(self) -> str:
        """A hash of the content that costs no full read."""

    def load(self, name: str, rows: slice = EVERYTHING) -> torch.Tensor:
        """Read one tensor, or `rows` of it, into memory of its own on the CPU, in the dtype of its entry.

        Raises `CheckpointError` for a file that is shorter now than when it was opened.
        """


@dataclass(frozen=True)
class Excerpt:
    """Some of the tensors of a weight file, as a weight file. Path and fingerprint are the whole one's."""

    file: WeightFile
    entries: Mapping[str, TensorEntry]

    @property
    def path(self) -> Path:
        """The file's path."""
        return self.file.path

    @property
    def fingerprint(self) -> str:
        """The whole file's fingerprint."""
        return self.file.fingerprint

    def load(self, name: str, rows: slice = EVERYTHING) -> torch.Tensor:
        """Read one tensor, or rows of it."""
        return self.file.load(name, rows)
