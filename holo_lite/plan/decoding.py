"""What decoding costs, from the layers of the Wan 2.1 decoder.

With base width b (96), a frame of h x w latents, and e bytes a number:

    weights         7932 b² + 2021 b + 275                                        numbers
    feature cache   (1576 b + 32) hw                                              numbers
    whole frame     (2360 b + 48) hw + 48 b (h + w) + 12 b                        numbers, the cache among them
    attention       8 (hw)² bytes of scores, and (56 b + 32) hw·e: where it is more, on large frames only
    operations      (234112 b² + 44928 b + 512) hw + 16 b (hw)²                   a latent frame
                    (74496 b² + 13824 b + 512) hw + 16 b (hw)²                    the first, which is one frame

The last stage runs at full size and sets the peak: hence everything grows with the area; h + w and the constant
are the padding around it. `tests/plan/test_plan.py` runs the real decoder without data and finds these numbers
again. What a card's convolution kernels use as workspace comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from holo_lite.eightbit.limits import FP32
from holo_lite.film.tiling import tile_spans
from holo_lite.story.shots import FRAMES_PER_LATENT, PIXELS_PER_LATENT
from holo_lite.system.records import Positive

LATENT_CHANNELS = 16
RGB = 3

Tile = tuple[Positive, Positive]


@dataclass(frozen=True)
class Decoder:
    """The decoder's width, and the bytes of a number in it."""

    base_dim: int = 96
    bytes_per_number: int = 2

    @property
    def weights(self) -> int:
        """Bytes of its weights."""
        return (7932 * self.base_dim**2 + 2021 * self.base_dim + 275) * self.bytes_per_number

    def cache(self, height: int, width: int) -> int:
        """Bytes kept from frame to frame, for a frame of this many latents."""
        return (1576 * self.base_dim + 32) * height * width * self.bytes_per_number

    def frame(self, height: int, width: int) -> int:
        """Most bytes alive while a frame of this many latents is decoded, its input and the cache included."""
        area, b = height * width, self.base_dim
        last_stage = (2360 * b + 48) * area + 48 * b * (height + width) + 12 * b
        scores = self.cache(height, width) + 8 * area**2 + (56 * b + 32) * area * self.bytes_per_number
        return max(last_stage * self.bytes_per_number, scores) + LATENT_CHANNELS * area * self.bytes_per_number

    def pixels(self, height: int, width: int) -> int:
        """Bytes of a frame that is decoded."""
        return RGB * height * width * PIXELS_PER_LATENT**2 * self.bytes_per_number

    def tiled(self, height: int, width: int, tile: Tile) -> int:
        """The same in tiles whose caches wait on the host: one tile, and the frames it goes into."""
        canvas = (FRAMES_PER_LATENT * RGB + 1) * height * width * PIXELS_PER_LATENT**2 * FP32
        return self.frame(min(height, tile[0]), min(width, tile[1])) + canvas

    def operations(self, height: int, width: int, latent_frames: int) -> int:
        """Floating-point operations of a clip decoded in whole frames."""
        area, b = height * width, self.base_dim
        first, later = 74496 * b * b + 13824 * b + 512, 234112 * b * b + 44928 * b + 512
        return (first + (latent_frames - 1) * later) * area + latent_frames * 16 * b * area**2

    def tiled_operations(self, height: int, width: int, latent_frames: int, tile: Tile) -> int:
        """The same in tiles, each overlap decoded by all that share it."""
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


def stride_of(tile: Tile) -> Tile:
    """Tiles overlap by half, as the reference's do."""
    return tile[0] // 2, tile[1] // 2


def _lengths(length: int, tile: int) -> list[int]:
    """The lengths of the tiles along an axis."""
    return [end - start for start, end in tile_spans(length, tile, stride_of((tile, tile))[0])]
