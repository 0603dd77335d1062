"""Latents to tokens and back, any slice of tokens at a time.

A token is a patch of 2 x 2 latents of one latent frame. Reading and writing through an index lets a slice
begin and end anywhere, so that neither direction ever holds the whole clip a second time.
"""

from __future__ import annotations

from torch import Tensor

from holo_lite.config import PATCH
from holo_lite.model.positions import Positions


def read_patches(latents: Tensor, positions: Positions, tokens: slice) -> Tensor:
    """Patches of (C, F, h, w) latents as rows (n, C·4), numbers in (channel, row, column) order."""
    return _by_token(latents)[positions.grid(tokens)].permute(0, 3, 1, 2).flatten(1)


def write_patches(latents: Tensor, positions: Positions, tokens: slice, rows: Tensor) -> None:
    """Put rows (n, 4·C), numbers in (row, column, channel) order, into (C, F, h, w) latents."""
    patches = rows.view(-1, PATCH, PATCH, latents.shape[0])
    _by_token(latents)[positions.grid(tokens)] = patches.to(latents.dtype)


def _by_token(latents: Tensor) -> Tensor:
    """View (C, F, h, w) as (F, h/2, w/2, 2, 2, C)."""
    channels, frames, height, width = latents.shape
    patches = latents.view(channels, frames, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(1, 2, 4, 3, 5, 0)
