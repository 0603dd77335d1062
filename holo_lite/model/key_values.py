"""The buffer of keys and values that self-attention fills and reads, shot by shot."""

from __future__ import annotations

from torch import Tensor


class KeyValues:
    """One buffer of keys and values, shared rows in front, a shot's own behind. k, v: (rows, H, D)."""

    def __init__(self, rows: int, heads: int, head_dim: int, like: Tensor) -> None:
        self.keys = like.new_empty(rows, heads, head_dim)
        self.values = like.new_empty(rows, heads, head_dim)
        self.filled = 0

    def extend(self, rows: int) -> tuple[Tensor, Tensor]:
        """The next rows, behind those already there, for keys and values to be written into."""
        end = self.filled + rows
        assert end <= len(self.keys), f"no room for {end} rows, but for {len(self.keys)}"
        place = slice(self.filled, end)
        self.filled = end
        return self.keys[place], self.values[place]

    def repeat(self, rows: range) -> None:
        """Write rows that are already there a second time, behind the rest."""
        if not rows:
            return
        again = slice(rows.start, rows.stop)
        keys, values = self.extend(len(rows))
        keys.copy_(self.keys[again])
        values.copy_(self.values[again])

    def go_to(self, row: int) -> None:
        """Go on writing at this row: those before it count as written, those from it on do not."""
        self.filled = row

    @property
    def seen(self) -> tuple[Tensor, Tensor]:
        """Keys and values written so far."""
        return self.keys[: self.filled], self.values[: self.filled]
