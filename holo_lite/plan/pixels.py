"""What encoding frames costs, from the layers of the Wan 2.1 encoder.

With base width b (96), a frame of h x w latents, and e bytes a number:

    weights         5777 b² + 3698 b + 1088                                       numbers
    feature cache   (944 b + 384) hw                                              numbers
    whole frame     (1264 b + 576) hw numbers and 256 hw bytes, the cache among them
    attention       8 (hw)² bytes of scores, and 96 b hw: where it is more than a block, on large frames only
    operations      (138464 b² + 48384 b + 1024) hw + 16 b (hw)²                  a latent frame
                    (46048 b² + 17280 b + 1024) hw + 16 b (hw)²                   the first, which is one frame

The first level runs at full size and sets the peak, as the decoder's last stage does. `tests/plan/test_vae_plan.py`
runs the real encoder without data and finds these numbers again. What a card's convolution kernels use as workspace
comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from holo_lite.eightbit.limits import FP32
from holo_lite.film.tiling import Tile
from holo_lite.plan.vae_halves import LATENT_CHANNELS, PIXELS, RGB, VaeHalf
from holo_lite.system.record_fields import Natural


@dataclass(frozen=True)
class EncodingPlan:
    """How pictures and foreign videos become latents: in whole frames (`tile` is None), or in tiles.

    `peak` is the most bytes on the device, `tile_caches` the main memory in which the tiles' caches wait.
    """

    tile: Tile | None
    peak: Natural
    tile_caches: Natural


@dataclass(frozen=True)
class PixelEncoder(VaeHalf):
    """The encoder's width, and the bytes of a number in it."""

    @property
    def weights(self) -> int:
        """Bytes of its weights."""
        return (5777 * self.base_dim**2 + 3698 * self.base_dim + 1088) * self.bytes_per_number

    def cache(self, height: int, width: int) -> int:
        """Bytes kept from frame to frame, for a frame of this many latents."""
        return (944 * self.base_dim + 2 * RGB * PIXELS) * height * width * self.bytes_per_number

    def frame(self, height: int, width: int) -> int:
        """Most bytes alive while a frame of this many latents is encoded, its pixels and the cache included."""
        return self._frame(height, width, RGB * PIXELS)

    def blended(self, height: int, width: int, tile: Tile | None) -> int:
        """The same with the latents it makes, in fp32. Of tiles one is in work, other caches wait elsewhere."""
        made = 2 * (LATENT_CHANNELS + 1) * height * width * FP32  # with weights, of a tile and of all
        rows, columns = (height, width) if tile is None else (min(height, tile[0]), min(width, tile[1]))
        return self.frame(rows, columns) + made

    def operations(self, height: int, width: int, latent_frames: int) -> int:
        """Floating-point operations of a clip encoded in whole frames."""
        area, b = height * width, self.base_dim
        first, later = 46048 * b * b + 17280 * b + 1024, 138464 * b * b + 48384 * b + 1024
        return (first + (latent_frames - 1) * later) * area + latent_frames * 16 * b * area**2
