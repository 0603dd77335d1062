"""Finds cuts from pixels alone: where a frame differs from the one before far more than its neighbours do.

Motion is continuous: what is in a frame was in the previous one, at most moved a little. So each block of a frame
is held against the frame before, where it was and up to `REACH` pixels left, right, above and below, and what is
left of the nearest of these counts as change. Characters move one pixel a frame; a decoder that stutters moves them
several at once, every four frames, and that is no cut. Changes are squared, so that a cut smeared over two frames
is still one where most of it lies in one of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HEIGHT = 64  # the picture's height for which the lengths below are given; a higher one is averaged to about it
BLOCK = 8  # pixels a side
REACH = 3  # pixels; at a cut the edges of every character jump by six and more
MARGIN = 4  # pixels at the picture's edge that are looked at but not judged: what enters there was nowhere before
NEAR = 4  # frames on either side: less than the shortest shot, and the stride of the VAE
TIMES_ITS_NEIGHBOURS = 3.0
LEAST = 1.5e-3  # mean squared change, values 0 to 1; drawn cuts: 3.5e-3 and more

Pixels = NDArray[np.float32]


def find_cuts(frames: NDArray[np.uint8]) -> tuple[int, ...]:
    """First frame of every shot but the first, of frames (n, H, W, 3)."""
    changes = _changes(_pooled(frames))
    return tuple(index + 1 for index in range(len(changes)) if _stands_out(changes, index))


def _pooled(frames: NDArray[np.uint8]) -> Pixels:
    """Values 0 to 1 of a picture about `HEIGHT` high, without what is left over at its edges by `BLOCK`."""
    side = max(1, frames.shape[1] // HEIGHT)
    n, height, width = len(frames), frames.shape[1] // side, frames.shape[2] // side
    whole = frames[:, : height * side, : width * side].reshape(n, height, side, width, side, 3)
    pixels: Pixels = whole.mean((2, 4), dtype=np.float32) / np.float32(255)
    return pixels


def _changes(x: Pixels) -> Pixels:
    """Mean squared change from each frame to the next that no motion explains. → (n - 1,)."""
    height, width = (BLOCK * ((size - 2 * MARGIN) // BLOCK) for size in x.shape[1:3])
    now = x[1:, MARGIN : MARGIN + height, MARGIN : MARGIN + width]
    aside = range(-REACH, REACH + 1)
    best = np.full((len(now), height // BLOCK, width // BLOCK), np.inf, np.float32)
    for dy, dx in {*((d, 0) for d in aside), *((0, d) for d in aside)}:
        y, left = MARGIN + dy, MARGIN + dx
        away = np.square(now - x[:-1, y : y + height, left : left + width])
        blocks = away.reshape(len(now), height // BLOCK, BLOCK, width // BLOCK, BLOCK * 3).mean((2, 4))
        np.minimum(best, blocks, out=best)
    changes: Pixels = best.mean((1, 2))
    return changes


def _stands_out(changes: Pixels, index: int) -> bool:
    before, behind = changes[max(0, index - NEAR) : index], changes[index + 1 : index + 1 + NEAR]
    around = max((*before, *behind), default=np.float32(0))
    return bool(changes[index] >= LEAST and changes[index] >= TIMES_ITS_NEIGHBOURS * around)
