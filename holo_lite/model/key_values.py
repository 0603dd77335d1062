"""The buffer of keys and values that self-attention fills and reads, shot by shot."""

from __future__ import annotations

from torch import Tensor


class KeyValues:
    """One buffer of keys and values, shared rows in front, a shot's own behind. k, v: (rows, H, D)."""

    def __init__(self, rows: int, heads: int, head_dim: int, like: Tensor) -> None:
        self.keys = like.new_empty(rows, heads, head_dim)
        self.values = like.new_empty(rows, heads, head_dim)
        self.filled = 0

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Write rows behind those already there."""
        rows = slice(self.filled, self.filled + keys.shape[0])
        self.keys[rows], self.values[rows] = keys, values
        self.filled = rows.stop

    def repeat(self, rows: range) -> None:
        """Write rows that are already there a second time, behind the rest."""
        again = slice(rows.start, rows.stop)
        self.append(self.keys[again], self.values[again])

    def go_to(self, row: int) -> None:
        """Go on writing at this row: those before it count as written, those from it on do not."""
        self.filled = row

    @property
    def seen(self) -> tuple[Tensor, Tensor]:
        """Keys and values written so far."""
        return self.keys[: self.filled], self.values[: self.filled]
