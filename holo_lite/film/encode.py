"""A clip encoded latent frame by latent frame, in whole frames or in tiles where those do not fit.

The first frame is alone, then every four become one latent frame. All tiles advance together by those, each with
its own feature cache, and their latents are blended as decoded tiles' pixels are (`blending`). A tile's edges see
less of the picture than the whole frame would, so tiles give slightly other latents; the same tiles always give the
same. Whole frames are one tile.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from holo_lite.cancel import Cancel
from holo_lite.errors import SettingsError
from holo_lite.film.blending import BlendedTile, lay_tiles, summed_weights
from holo_lite.film.tiling import Tile, stride_of
from holo_lite.film.vae_encoder import VaeEncoder
from holo_lite.film.vae_shapes import COLOUR_CHANNELS, Z_DIM
from holo_lite.story.shots import FRAMES_PER_LATENT, PIXELS_PER_LATENT

Pixels = Tensor | npt.NDArray[np.uint8]


def encode_frames(
    encoder: VaeEncoder,
    frames: Iterable[Pixels],
    tile: Tile | None = None,
    *,
    cache_device: torch.device | None = None,
    cancel: Cancel | None = None,
) -> Generator[Tensor, None, None]:
    """Encode a clip as its frames come, (H,W,3) of uint8.

    Yields F latent frames (16,H/8,W/8) for 4F-3 frames, normalised, fp32 on the encoder's device; up to three
    frames more than that are left out. `tile` (rows, columns) in latents: frames are encoded in tiles that overlap
    by half, and the caches of those not in work lie on `cache_device` (None: they stay where they are). Only the
    frames of one latent frame and the feature caches are in memory.

    Raises `SettingsError` for frames of different sizes, or whose sides are no multiples of 8, and `Cancelled`
    before the next frame.
    """
    canvas, token = None, cancel or Cancel()
    for group in _groups(frames):
        canvas = canvas or _Canvas.of(encoder, _size(group[0]), tile, cache_device)
        yield canvas.encoded(group, token)


def _groups(frames: Iterable[Pixels]) -> Iterator[list[Tensor]]:
    """The frames of every latent frame."""
    waiting: list[Tensor] = []
    needed = 1
    for frame in frames:
        waiting.append(torch.as_tensor(frame))
        if len(waiting) == needed:
            yield waiting
            waiting, needed = [], FRAMES_PER_LATENT


@dataclass(frozen=True)
class _Canvas:
    """A clip's size in pixels, its tiles with what they remember, and the sum of their weights."""

    encoder: VaeEncoder
    size: tuple[int, int]
    tiles: Sequence[BlendedTile]
    total: Tensor
    waits_on: torch.device | None

    @classmethod
    def of(
        cls, encoder: VaeEncoder, size: tuple[int, int], tile: Tile | None, cache_device: torch.device | None
    ) -> _Canvas:
        rows, columns = (side // PIXELS_PER_LATENT for side in size)
        whole = (rows, columns)
        stride = whole if tile is None else stride_of(tile)
        tiles = lay_tiles(whole, tile or whole, stride, encoder.device, scale=1)
        return cls(encoder, size, tiles, summed_weights(tiles), cache_device if len(tiles) > 1 else None)

    def encoded(self, group: Sequence[Tensor], cancel: Cancel) -> Tensor:
        """The latent frame (16,h,w) of some frames."""
        _check_sizes(group, self.size)
        latents = torch.zeros(Z_DIM, *self.total.shape, device=self.encoder.device)
        for tile in self.tiles:
            part = latents[:, tile.rows.latents, tile.cols.latents]
            part += self._encoded_tile(group, tile, cancel) * tile.weight()
        return latents.div_(self.total)

    def _encoded_tile(self, group: Sequence[Tensor], tile: BlendedTile, cancel: Cancel) -> Tensor:
        found = None
        with tile.in_work(self.encoder.device, self.waits_on) as cache:
            for frame in group:
                cancel.check()
                pixels = frame[tile.rows.pixels, tile.cols.pixels]
                found = self.encoder.advance(self.encoder.encoder_input(pixels), cache)
        assert found is not None, "the frames of a latent frame make one"
        return found


def _size(frame: Tensor) -> tuple[int, int]:
    rows, columns = frame.shape[0], frame.shape[1]
    if not rows or not columns or rows % PIXELS_PER_LATENT or columns % PIXELS_PER_LATENT:
        raise SettingsError(
            f"frames of {columns}×{rows} pixels cannot be encoded; "
            f"cut them so that both sides are multiples of {PIXELS_PER_LATENT}"
        )
    return rows, columns


def _check_sizes(group: Sequence[Tensor], size: tuple[int, int]) -> None:
    for frame in group:
        assert frame.shape[2:] == (COLOUR_CHANNELS,), f"a frame of shape {tuple(frame.shape)}"
        assert frame.dtype == torch.uint8, f"a frame of {frame.dtype}"
        if tuple(frame.shape[:2]) != size:
            raise SettingsError(
                f"a frame of {frame.shape[1]}×{frame.shape[0]} pixels follows frames of {size[1]}×{size[0]}; "
                "scale them to one size"
            )
