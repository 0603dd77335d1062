"""Decoding in overlapping tiles, for cards on which whole frames do not fit.

The reference decodes every tile's whole clip and keeps all of them as pixels. Here all tiles advance together
by one latent frame, each with its own feature cache, and are blended at once (`blending`); the caches of tiles that
are not in work can wait on the host. A frame is the weighted mean of the tiles as decoded, clamped afterwards.

Overlaps are decoded more than once: at 480×832 the reference's tiles cost 2.25 times the work of whole
frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from holo_lite.film.blending import BlendedTile, lay_tiles, summed_weights
from holo_lite.film.vae import Vae
from holo_lite.story.shots import FRAMES_PER_LATENT, PIXELS_PER_LATENT


def decode_frames_tiled(
    vae: Vae,
    latents: Tensor,
    *,
    tile: tuple[int, int],
    stride: tuple[int, int],
    cache_device: torch.device | None = None,
) -> Iterator[Tensor]:
    """Decode a clip frame by frame, each frame in tiles.

    `latents` are as for `decode_frames`; `tile` and `stride` are (rows, columns) in latents, the reference's
    being (30, 52) and (15, 26). The feature caches of tiles that are not in work lie on `cache_device`
    (None: they stay where they are). Yields 4F-3 frames (3,H,W), float32 on the decoder's device, clamped
    to -1..1. Raises `SettingsError`, before anything is decoded, for a stride of 0 or one that leaves gaps.
    """
    size = (latents.shape[2], latents.shape[3])
    tiles = lay_tiles(size, tile, stride, vae.device, scale=PIXELS_PER_LATENT)
    return _decode(vae, latents, tiles, cache_device)


def _decode(
    vae: Vae, latents: Tensor, tiles: Sequence[BlendedTile], cache_device: torch.device | None
) -> Iterator[Tensor]:
    total = summed_weights(tiles)
    for index in range(latents.shape[1]):
        z = vae.decoder_input(latents[:, index])
        frames = torch.zeros(FRAMES_PER_LATENT if index else 1, 3, *total.shape, device=vae.device)
        for tile in tiles:
            _add_tile(vae, z, tile, frames, cache_device)
        yield from frames.div_(total).clamp_(-1, 1)


def _add_tile(vae: Vae, z: Tensor, tile: BlendedTile, frames: Tensor, cache_device: torch.device | None) -> None:
    """Decode one tile of one latent frame and add it, weighted, to `frames` (1 or 4,3,H,W)."""
    part = z[tile.rows.latents, tile.cols.latents]
    weight = tile.weight()
    with tile.in_work(vae.device, cache_device) as cache:
        for frame, decoded in zip(frames, vae.advance(part, cache), strict=True):
            frame[:, tile.rows.pixels, tile.cols.pixels] += decoded.float() * weight
