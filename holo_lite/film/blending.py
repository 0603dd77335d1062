"""Overlapping tiles, and how what is made of them becomes one: the reference's way, number for number.

    tiles     lie as `tiling` says
    weight    on each axis 1, with a ramp 1/b, 2/b, … over the b numbers shared with a neighbour;
              in two dimensions the smaller of both
    whole     weighted mean

Every tile has a feature cache of its own. The caches of tiles that are not in work can wait on another device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from holo_lite.errors import SettingsError
from holo_lite.film.tiling import Tile, tile_spans
from holo_lite.film.vae_layers import Cache
from holo_lite.story.shots import PIXELS_PER_LATENT


@dataclass(frozen=True)
class Span:
    """A tile's place on one axis, in latents and in pixels, and its weight there: one for every number made."""

    latents: slice
    pixels: slice
    weight: Tensor


@dataclass(frozen=True)
class BlendedTile:
    """A tile and what its convolutions remember."""

    rows: Span
    cols: Span
    cache: Cache = field(default_factory=dict)

    def weight(self) -> Tensor:
        """Weights of all that is made of the tile, above 0 and up to 1."""
        return torch.minimum(self.rows.weight[:, None], self.cols.weight[None, :])

    @contextmanager
    def in_work(self, device: torch.device, waits_on: torch.device | None) -> Iterator[Cache]:
        """Its cache on a device. Afterwards it waits on another (None: it stays)."""
        for past in self.cache.values():
            past.move(device)
        yield self.cache
        if waits_on is not None:
            for past in self.cache.values():
                past.move(waits_on)


def lay_tiles(size: Tile, tile: Tile, stride: Tile, device: torch.device, *, scale: int) -> list[BlendedTile]:
    """Lay tiles over a frame of `size` latents. `scale`: numbers made of a latent on an axis, 8 pixels or itself.

    Raises `SettingsError` for a stride of 0 or one that leaves gaps.
    """
    rows, cols = (
        _spans(length, side, step, device, scale) for length, side, step in zip(size, tile, stride, strict=True)
    )
    return [BlendedTile(row, col) for row in rows for col in cols]


def summed_weights(tiles: Sequence[BlendedTile]) -> Tensor:
    """The weights of all tiles where they lie: what their weighted sum is divided by."""
    last = tiles[-1]
    scale = len(last.rows.weight) // (last.rows.latents.stop - last.rows.latents.start)
    total = last.weight().new_zeros(last.rows.latents.stop * scale, last.cols.latents.stop * scale)
    for tile in tiles:
        rows, cols = (_scaled(span.latents, scale) for span in (tile.rows, tile.cols))
        total[rows, cols] += tile.weight()
    return total


def _spans(length: int, tile: int, stride: int, device: torch.device, scale: int) -> list[Span]:
    """Lay tiles along an axis of `length` latents."""
    if not 0 < stride <= tile:
        raise SettingsError(f"a tile of {tile} latents cannot have stride {stride}; give 1 to {tile}")
    overlap = (tile - stride) * scale
    return [
        Span(
            slice(start, end),
            slice(start * PIXELS_PER_LATENT, end * PIXELS_PER_LATENT),
            _ramps((end - start) * scale, overlap, before=start > 0, after=end < length).to(device),
        )
        for start, end in tile_spans(length, tile, stride)
    ]


def _scaled(span: slice, scale: int) -> slice:
    return slice(span.start * scale, span.stop * scale)


def _ramps(length: int, overlap: int, *, before: bool, after: bool) -> Tensor:
    """Weights of `length` numbers: 1, with a ramp over `overlap` of them towards the neighbours there are."""
    weight = torch.ones(length)
    ramp = torch.arange(1, overlap + 1) / overlap
    if before and overlap:
        weight[:overlap] = ramp
    if after and overlap:
        # Where two ramps meet on a narrow tile, this one holds, as in the reference.
        weight[length - overlap :] = ramp.flip(0)
    return weight
