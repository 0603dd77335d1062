"""Where tiles lie on an axis.

They start at 0, stride, 2·stride, …, until one reaches the edge, which cuts it.
"""

from __future__ import annotations


def tile_spans(length: int, tile: int, stride: int) -> list[tuple[int, int]]:
    """Where each tile begins, and where it ends."""
    starts = [start for start in range(0, length, stride) if start == 0 or start - stride + tile < length]
    return [(start, min(start + tile, length)) for start in starts]
