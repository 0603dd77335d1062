"""Where tiles lie on an axis.

They start at 0, stride, 2·stride, …, until one reaches the edge, which cuts it.
"""

from __future__ import annotations

from holo_lite.story.shots import PIXELS_PER_LATENT
from holo_lite.system.record_fields import Positive

Tile = tuple[Positive, Positive]  # rows and columns, in latents


def stride_of(tile: Tile) -> Tile:
    """Tiles overlap by half, as the reference's do."""
    return tile[0] // 2, tile[1] // 2


def tiles_of(tile: Tile) -> str:
    """Tiles of this size, for a person."""
    rows, columns = (PIXELS_PER_LATENT * side for side in tile)
    return f"tiles of {columns}×{rows} pixels, blended where they overlap"


def tile_spans(length: int, tile: int, stride: int) -> list[tuple[int, int]]:
    """Where each tile begins, and where it ends."""
    starts = [start for start in range(0, length, stride) if start == 0 or start - stride + tile < length]
    return [(start, min(start + tile, length)) for start in starts]
