"""Decoding in overlapping tiles, for cards on which whole frames do not fit.

The reference decodes every tile's whole clip and keeps all of them as pixels. Here all tiles advance together
by one latent frame, each with its own feature cache, and are blended at once; the caches of tiles that are
not in work can wait on the host. The blend is the reference's, number for number:

    tiles     lie as `tiling` says
    weight    on each axis 1, with a ramp 1/b, 2/b, … over the b pixels shared with a neighbour;
              in two dimensions the smaller of both
    frame     weighted mean of the tiles as decoded, clamped afterwards

Overlaps are decoded more than once: at 480×832 the reference's tiles cost 2.25 times the work of whole
frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from holo_lite.errors import SettingsError
from holo_lite.film.tiling import tile_spans
from holo_lite.film.vae import Cache, Vae
from holo_lite.story.shots import FRAMES_PER_LATENT, PIXELS_PER_LATENT


@dataclass(frozen=True)
class _Span:
    """A tile's place on one axis, in latents, and its weight in pixels there."""

    latents: slice
    pixels: slice
    weight: torch.Tensor


@dataclass(frozen=True)
class _Tile:
    """A tile and what its convolutions remember."""

    rows: _Span
    cols: _Span
    cache: Cache

    def weight(self) -> torch.Tensor:
        """Weights (8h,8w) of the tile's pixels, above 0 and up to 1."""
        return torch.minimum(self.rows.weight[:, None], self.cols.weight[None, :])


def decode_frames_tiled(
    vae: Vae,
    latents: torch.Tensor,
    *,
    tile: tuple[int, int],
    stride: tuple[int, int],
    cache_device: torch.device | None = None,
) -> Iterator[torch.Tensor]:
    """Decode a clip frame by frame, each frame in tiles.

    `latents` are as for `decode_frames`; `tile` and `stride` are (rows, columns) in latents, the reference's
    being (30, 52) and (15, 26). The feature caches of tiles that are not in work lie on `cache_device`
    (None: they stay where they are). Yields 4F-3 frames (3,H,W), float32 on the decoder's device, clamped
    to -1..1. Raises `SettingsError`, before anything is decoded, for a stride of 0 or one that leaves gaps.
    """
    rows = _spans(latents.shape[2], tile[0], stride[0], vae.device)
    cols = _spans(latents.shape[3], tile[1], stride[1], vae.device)
    tiles = [_Tile(row, col, vae.new_cache()) for row in rows for col in cols]
    return _decode(vae, latents, tiles, cache_device)


def _decode(
    vae: Vae, latents: torch.Tensor, tiles: list[_Tile], cache_device: torch.device | None
) -> Iterator[torch.Tensor]:
    height, width = latents.shape[2] * PIXELS_PER_LATENT, latents.shape[3] * PIXELS_PER_LATENT
    total = torch.zeros(height, width, device=vae.device)
    for tile in tiles:
        total[tile.rows.pixels, tile.cols.pixels] += tile.weight()
    for index in range(latents.shape[1]):
        z = vae.decoder_input(latents[:, index])
        frames = torch.zeros(FRAMES_PER_LATENT if index else 1, 3, height, width, device=vae.device)
        for tile in tiles:
            _add_tile(vae, z, tile, frames, cache_device)
        yield from frames.div_(total).clamp_(-1, 1)


def _add_tile(
    vae: Vae, z: torch.Tensor, tile: _Tile, frames: torch.Tensor, cache_device: torch.device | None
) -> None:
    """Decode one tile of one latent frame and add it, weighted, to `frames` (1 or 4,3,H,W)."""
    part = z[..., tile.rows.latents, tile.cols.latents]
    weight = tile.weight()
    _move(tile.cache, vae.device)
    for frame, decoded in zip(frames, vae.advance(part, tile.cache), strict=True):
        frame[:, tile.rows.pixels, tile.cols.pixels] += decoded.float() * weight
    if cache_device is not None:
        _move(tile.cache, cache_device)


def _move(cache: Cache, device: torch.device) -> None:
    for slots in cache:
        for index, kept in slots.items():
            if isinstance(kept, torch.Tensor):
                slots[index] = kept.to(device)


def _spans(length: int, tile: int, stride: int, device: torch.device) -> list[_Span]:
    """Lay tiles along an axis of `length` latents."""
    if not 0 < stride <= tile:
        raise SettingsError(f"a tile of {tile} latents cannot have stride {stride}; give 1 to {tile}")
    overlap = (tile - stride) * PIXELS_PER_LATENT
    return [
        _Span(
            slice(start, end),
            slice(start * PIXELS_PER_LATENT, end * PIXELS_PER_LATENT),
            _ramps((end - start) * PIXELS_PER_LATENT, overlap, before=start > 0, after=end < length).to(device),
        )
        for start, end in tile_spans(length, tile, stride)
    ]


def _ramps(length: int, overlap: int, *, before: bool, after: bool) -> torch.Tensor:
    """Weights of `length` pixels: 1, with a ramp over `overlap` pixels towards the neighbours there are."""
    weight = torch.ones(length)
    ramp = torch.arange(1, overlap + 1) / overlap
    if before and overlap:
        weight[:overlap] = ramp
    if after and overlap:
        # Where two ramps meet on a narrow tile, this one holds, as in the reference.
        weight[length - overlap :] = ramp.flip(0)
    return weight
