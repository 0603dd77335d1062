"""What decoder and encoder of the VAE cost alike: a frame in work, and tiles, whose overlaps are computed twice.

The lengths of the last tile of an axis are what is left there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from holo_lite.eightbit.limits import FP32
from holo_lite.film.tiling import Tile, stride_of, tile_spans
from holo_lite.story.shots import PIXELS_PER_LATENT

LATENT_CHANNELS = 16
RGB = 3
PIXELS = PIXELS_PER_LATENT**2  # of a latent
SCORE = 8  # bytes of a pair of pixels in attention, where its scores are whole in memory
ATTENTION = 96  # bytes of queries, keys, values and what is made of them, for each base width and latent


@dataclass(frozen=True)
class VaeHalf(ABC):
    """The width of the VAE, and the bytes of a number in it."""

    base_dim: int = 96
    bytes_per_number: int = 2

    @abstractmethod
    def cache(self, height: int, width: int) -> int:
        """Bytes kept from frame to frame, for a frame of this many latents."""

    @abstractmethod
    def operations(self, height: int, width: int, latent_frames: int) -> int:
        """Floating-point operations of a clip in whole frames."""

    def tiled_operations(self, height: int, width: int, latent_frames: int, tile: Tile) -> int:
        """The same in tiles, each overlap computed by all that share it."""
        return sum(
            self.operations(rows, columns, latent_frames)
            for rows in _lengths(height, tile[0])
            for columns in _lengths(width, tile[1])
        )

    def host_caches(self, height: int, width: int, tile: Tile) -> int:
        """Bytes of host memory in which the caches of all tiles wait."""
        return sum(
            self.cache(rows, columns) for rows in _lengths(height, tile[0]) for columns in _lengths(width, tile[1])
        )

    def _frame(self, height: int, width: int, beside: int) -> int:
        """Most bytes alive for a frame; `beside` the cache there are so many numbers a latent, and what works.

        That is a residual block at full size, with its input, what is in it, its window of three frames, and the
        lengths of its pixels, in fp32; or attention.
        """
        area, e = height * width, self.bytes_per_number
        block = 5 * PIXELS * self.base_dim * area * e + PIXELS * area * FP32
        attention = SCORE * area**2 + ATTENTION * self.base_dim * area
        return self.cache(height, width) + max(block, attention) + beside * area * e


def _lengths(length: int, tile: int) -> list[int]:
    """The lengths of the tiles along an axis."""
    return [end - start for start, end in tile_spans(length, tile, stride_of((tile, tile))[0])]
