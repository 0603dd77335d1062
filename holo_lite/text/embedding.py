"""The token embedding, a fifth of an encoder's file, of which a prompt needs at most 512 rows.

Those are read when they are asked for; the table itself is neither copied nor put on a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from holo_lite.weights.weight_file import WeightFile


@dataclass(frozen=True)
class Embedding:
    """A matrix (vocabulary, d_model) in a file, under a name."""

    file: WeightFile
    name: str

    @property
    def rows(self) -> int:
        """How many tokens it knows."""
        return self.file.entries[self.name].shape[0]

    def look_up(self, ids: Sequence[int]) -> Tensor:
        """The rows of these tokens, (n, d_model) on the CPU. Raises `CheckpointError` if the file falls short."""
        return torch.cat([self.file.load(self.name, slice(token, token + 1)) for token in ids])
