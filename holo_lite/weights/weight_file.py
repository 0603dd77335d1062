"""What every kind of file of weights can be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from holo_lite.weights.header import TensorEntry


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

    def load(self, name: str) -> torch.Tensor:
        """Map one tensor on the CPU, in the dtype of the file."""


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

    def load(self, name: str) -> torch.Tensor:
        """Map one tensor."""
        return self.file.load(name)
