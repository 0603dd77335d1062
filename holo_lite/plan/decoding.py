"""What decoding costs, from the layers of the Wan 2.1 decoder.

With base width b (96), a frame of h x w latents, and e bytes a number:

    weights         7932 b² + 2021 b + 275                                        numbers
    feature cache   (1576 b + 32) hw                                              numbers
    whole frame     (1916 b + 48) hw numbers and 256 hw bytes, the cache among them
    attention       8 (hw)² bytes of scores, and 96 b hw: where it is more than a block, on large frames only
    operations      (234112 b² + 44928 b + 512) hw + 16 b (hw)²                   a latent frame
                    (74496 b² + 13824 b + 512) hw + 16 b (hw)²                    the first, which is one frame

The last stage runs at full size and sets the peak: a residual block's input, what it has made so far, and the
window of three frames that its second convolution sees; in the stages before, the second of two frames waits.
`tests/plan/test_vae_plan.py` runs the real decoder without data and finds these numbers again. What a card's
convolution kernels use as workspace comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from holo_lite.eightbit.limits import FP32
from holo_lite.film.tiling import Tile
from holo_lite.plan.vae_halves import LATENT_CHANNELS, PIXELS, RGB, VaeHalf
from holo_lite.story.shots import FRAMES_PER_LATENT

WAITING = 20  # base widths of numbers a latent: a frame of four at an eighth of the size, and at a quarter


@dataclass(frozen=True)
class Decoder(VaeHalf):
    """The decoder's width, and the bytes of a number in it."""

    @property
    def weights(self) -> int:
        """Bytes of its weights."""
        return (7932 * self.base_dim**2 + 2021 * self.base_dim + 275) * self.bytes_per_number

    def cache(self, height: int, width: int) -> int:
        """Bytes kept from frame to frame, for a frame of this many latents."""
        return (1576 * self.base_dim + 2 * LATENT_CHANNELS) * height * width * self.bytes_per_number

    def frame(self, height: int, width: int) -> int:
        """Most bytes alive while a frame of this many latents is decoded, its input and the cache included."""
        return self._frame(height, width, WAITING * self.base_dim + LATENT_CHANNELS)

    def pixels(self, height: int, width: int) -> int:
        """Bytes of a frame that is decoded."""
        return RGB * PIXELS * height * width * self.bytes_per_number

    def tiled(self, height: int, width: int, tile: Tile) -> int:
        """The same in tiles whose caches wait on the host: one tile, and the frames it goes into."""
        canvas = (FRAMES_PER_LATENT * RGB + 1) * PIXELS * height * width * FP32
        return self.frame(min(height, tile[0]), min(width, tile[1])) + canvas

    def operations(self, height: int, width: int, latent_frames: int) -> int:
        """Floating-point operations of a clip decoded in whole frames."""
        area, b = height * width, self.base_dim
        first, later = 74496 * b * b + 13824 * b + 512, 234112 * b * b + 44928 * b + 512
        return (first + (latent_frames - 1) * later) * area + latent_frames * 16 * b * area**2
