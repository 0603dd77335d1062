"""The position of each token, and the rotation that gives it to attention.

Tokens are numbered frame by frame, row by row, column by column, over the whole clip. Rotations are kept as
three small tables, one per axis, and put together for the frames in work: a table for the whole clip would be as
long as the clip. A kernel of `holo_lite.kernels` looks a token's angles up in the three tables itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from holo_lite.model.equations import rope_angles, rope_parts
from holo_lite.story.shots import ShotLayout


@dataclass(frozen=True)
class Positions:
    """The clip's grid and its rotary tables. cos, sin: one (positions, part/2) fp32 table per axis."""

    rows: int
    columns: int
    cos: tuple[Tensor, Tensor, Tensor]
    sin: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, layout: ShotLayout, head_dim: int, device: torch.device) -> Positions:
        """Tables for a clip: computed in float64, kept in fp32."""
        sizes = (layout.latent_frames, layout.rows, layout.columns)
        axes = zip(sizes, rope_parts(head_dim), strict=True)
        frame, row, column = (rope_angles(size, part).to(device) for size, part in axes)
        cos = (frame.cos().float(), row.cos().float(), column.cos().float())
        sin = (frame.sin().float(), row.sin().float(), column.sin().float())
        return cls(layout.rows, layout.columns, cos, sin)

    def grid(self, tokens: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Frame, row and column of each token in a slice. → three (n,) int64."""
        index = torch.arange(tokens.start, tokens.stop, device=self.cos[0].device)
        frame_row = index // self.columns
        return frame_row // self.rows, frame_row % self.rows, index % self.columns

    @property
    def head_dim(self) -> int:
        """Width D of the heads that are turned."""
        return 2 * sum(table.shape[1] for table in self.cos)

    def rotations(self, tokens: slice) -> tuple[Tensor, Tensor]:
        """Cos and sin of each token's angles. → two (n, 1, D/2) fp32, each made in one step for whole frames."""
        size = self.rows * self.columns
        frames = slice(tokens.start // size, (tokens.stop - 1) // size + 1)
        inside = slice(tokens.start - frames.start * size, tokens.stop - frames.start * size)
        return self._of_frames(self.cos, frames)[inside], self._of_frames(self.sin, frames)[inside]

    def _of_frames(self, tables: tuple[Tensor, Tensor, Tensor], frames: slice) -> Tensor:
        """A table for every token of some frames. → (n, 1, part/2 of all axes)."""
        frame, row, column = tables[0][frames, None, None], tables[1][None, :, None], tables[2][None, None]
        grid = len(frame), self.rows, self.columns, -1
        return torch.cat([part.expand(grid) for part in (frame, row, column)], dim=-1).flatten(0, 2).unsqueeze(1)
