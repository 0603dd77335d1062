"""The token embedding, a fifth of an encoder's file, of which a prompt needs at most 512 rows.

Those are read when they are asked for; the table itself is neither copied nor put on a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.weights.calls import OpenFiles, bytes_of, find_place
from holo_lite.weights.weight_file import WeightFile


@dataclass(frozen=True)
class Embedding:
    """A matrix (vocabulary, d_model) in a file.

    `place` is where it begins; where its numbers lie in no one piece, it is loaded instead, as `table`.
    """

    rows: int
    columns: int
    dtype: torch.dtype
    place: tuple[Path, int] | None = None
    table: Tensor | None = None

    @classmethod
    def of(cls, file: WeightFile, name: str) -> Embedding:
        """Find it in a file. Nothing of it is read where its numbers lie in one piece."""
        (rows, columns), place = file.entries[name].shape, find_place(file, name)
        return cls(rows, columns, file.entries[name].dtype, place, file.load(name) if place is None else None)

    def look_up(self, ids: Sequence[int]) -> Tensor:
        """The rows of these tokens, (n, d_model) on the CPU. Raises `CheckpointError` if the file falls short."""
        if self.place is None:
            assert self.table is not None, "it is in one piece or loaded"
            return self.table[torch.tensor(ids)]
        found, (path, begin) = torch.empty(len(ids), self.columns, dtype=self.dtype), self.place
        with OpenFiles() as files:
            for row, token in zip(found, ids, strict=True):
                files.fill(path, begin + token * self.columns * self.dtype.itemsize, bytes_of(row))
        return found
