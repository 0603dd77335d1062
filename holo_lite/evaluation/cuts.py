"""Finds cuts from pixels alone: where a frame differs from the one before far more than its neighbours do.

A motion, however fast, goes on: the frames around it change as much. A cut stands alone. Changes are measured on
averages over blocks, which hides noise and the thin edges of what moves, and in squares, so that a cut smeared over
two frames is still one where most of it lies in one of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 4  # pixels a side, of a picture 64 high
NEAR = 4  # frames on either side: less than the shortest shot; a decoder that stutters does so every four frames
TIMES_ITS_NEIGHBOURS = 3.0  # drawn cuts: 13 and more without noise; everything else: less than 1.3
LEAST = 5e-4  # mean squared change, values 0 to 1; drawn cuts: 2.5e-3 and more


def find_cuts(frames: NDArray[np.uint8]) -> tuple[int, ...]:
    """First frame of every shot but the first, of frames (n, H, W, 3)."""
    changes = _changes(frames)
    return tuple(index + 1 for index in range(len(changes)) if _stands_out(changes, index))


def _changes(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean squared change from each frame to the next. → (n - 1,)."""
    n, height, width, _ = frames.shape
    side = BLOCK * max(1, height // 64)
    whole = frames[:, : height - height % side, : width - width % side]
    blocks = whole.reshape(n, height // side, side, width // side, side, 3).mean((2, 4), dtype=np.float32) / 255
    changes: NDArray[np.float32] = np.square(np.diff(blocks, axis=0)).mean((1, 2, 3))
    return changes


def _stands_out(changes: NDArray[np.float32], index: int) -> bool:
    before, behind = changes[max(0, index - NEAR) : index], changes[index + 1 : index + 1 + NEAR]
    around = max((*before, *behind), default=np.float32(0))
    return bool(changes[index] >= LEAST and changes[index] >= TIMES_ITS_NEIGHBOURS * around)
