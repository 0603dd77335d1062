"""Fitting a VAE's colour map: drawn pictures through its encoder, their colours regressed on what comes out.

The pictures are still clips of five frames, so that both kinds of latent frame are met, the first and the later
ones. Half of them are soft, as light is, half are patches with hard edges; grey and coloured ones alike. Latents
drawn at random would do without the encoder, but a VAE never sees such: its channels are not independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from holo_lite.film.colours import ColourMap
from holo_lite.film.vae_encoder import load_vae_encoder
from holo_lite.story.shots import PIXELS_PER_LATENT

PICTURES = 8  # of each kind
SIDE = 48  # pixels
FRAMES = 5  # one latent frame for the first, one for the others
PATCHES = 12
CPU = torch.device("cpu")  # in its memory there is always room, whatever the card holds


def fit_colours(path: Path) -> ColourMap:
    """Fit the map of the VAE at `path`, as `load_vae` takes it. Works on the CPU; the same bits give the same map.

    Raises `CheckpointError` as `load_vae` does.
    """
    encoder = load_vae_encoder(path, dtype=torch.float32, device=CPU)
    latents, colours = [], []
    with torch.inference_mode():
        for picture in drawn_pictures():
            cache, frame = encoder.new_cache(), picture.permute(1, 2, 0)
            found = [each for _ in range(FRAMES) if (each := encoder.advance(frame, cache)) is not None]
            latents += [each.flatten(1).T for each in found]
            colours += [F.avg_pool2d(picture, PIXELS_PER_LATENT).flatten(1).T] * len(found)
    return ColourMap.of(regress(torch.cat(latents), torch.cat(colours)))


def regress(latents: Tensor, colours: Tensor) -> Tensor:
    """Least squares of colours (n, 3) on latents (n, 16) and one. → (17, 3) float64, the bias last."""
    ones = torch.ones(len(latents), 1)
    solved: Tensor = torch.linalg.lstsq(torch.cat([latents, ones], 1).double(), colours.double()).solution
    return solved


def drawn_pictures() -> Iterator[Tensor]:
    """Pictures (3, SIDE, SIDE), -1 to 1, the same every time."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(PICTURES):
        yield _soft(generator)
        yield _patches(generator)


def _soft(generator: torch.Generator) -> Tensor:
    """Light that changes slowly over the picture, and colour that does so less."""
    light = torch.stack([_field(1, cells, generator) for cells in (1, 2, 4, 8)]).sum(0)
    colour = torch.stack([_field(3, cells, generator) for cells in (1, 2, 4)]).sum(0)
    return torch.tanh(0.4 * light + 0.3 * colour)


def _field(channels: int, cells: int, generator: torch.Generator) -> Tensor:
    """Random numbers in a number of cells per side, blended into each other."""
    numbers = torch.randn(1, channels, cells, cells, generator=generator)
    return F.interpolate(numbers, size=(SIDE, SIDE), mode="bilinear")[0]


def _patches(generator: torch.Generator) -> Tensor:
    """Rectangles of one colour each over a ground."""
    picture = _colour(generator).expand(3, SIDE, SIDE).clone()
    for _ in range(PATCHES):
        (top, bottom), (left, right) = torch.randint(SIDE, (2, 2), generator=generator).sort().values.tolist()
        picture[:, top : bottom + 1, left : right + 1] = _colour(generator)
    return picture


def _colour(generator: torch.Generator) -> Tensor:
    """A colour (3, 1, 1), -1 to 1; every other one is grey."""
    colour = torch.rand(3, generator=generator) * 2 - 1
    grey = torch.rand(1, generator=generator) < 0.5
    return (colour[:1].expand(3) if grey else colour).view(3, 1, 1)
