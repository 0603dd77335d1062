"""What a film loses when it is decoded, encoded again and decoded: what a video without its latents costs.

    python -m benchmarks.reencoded [--films 6] [--steps N] [--seed 0]

holo-tiny makes films of held-out scenes. Each is encoded in three ways, and what comes back is compared with the
film's own pixels: as its frames are, as its mp4 has them, and its frames in tiles. A fourth row is the first frame
of every film alone, as a picture is encoded. Prints a table, then one line of JSON.

PSNR is 20 log10(255 / root of the mean squared difference), over all films; `difference` is the mean of what pixels
differ by, of 255. `latents` is the root of the mean squared difference of the latents, whose spread is about 1.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from holo_lite import MemorySink, Options, Pipeline, finish, latents_of
from holo_lite.film.encode import encode_frames
from holo_lite.film.tiling import Tile
from holo_lite.film.vae import Vae, decode_frames, load_vae, to_uint8
from holo_lite.film.vae_encoder import VaeEncoder, load_vae_encoder
from holo_lite.film.video import VideoWriter
from holo_lite.film.video_frames import video_frames
from holo_lite.tiny.words import storyboard
from holo_lite.tiny.world import random_scene

CPU = torch.device("cpu")
TILE = (6, 8)  # rows and columns of the 8 by 14 latents of a frame
FPS = 15
WHITE = 255


@dataclass
class Loss:
    """Squared and absolute differences of pixels, and squared ones of latents."""

    pixels: list[float] = field(default_factory=list)
    absolute: list[float] = field(default_factory=list)
    latents: list[float] = field(default_factory=list)

    def add(self, found: Tensor, expected: Tensor, latents: Tensor, own: Tensor) -> None:
        """Note a film (frames, H, W, 3) of uint8 against its own pixels, and its latents against its own."""
        difference = found.float() - expected.float()
        self.pixels.append(difference.square().mean().item())
        self.absolute.append(difference.abs().mean().item())
        self.latents.append((latents - own).square().mean().item())

    @property
    def figures(self) -> dict[str, float]:
        """PSNR in dB, the mean difference of 255, and the latents' root of the mean squared difference."""
        psnr = 20 * np.log10(WHITE) - 10 * np.log10(np.mean(self.pixels))
        return {
            "psnr": round(float(psnr), 2),
            "difference": round(float(np.mean(self.absolute)), 3),
            "latents": round(float(np.sqrt(np.mean(self.latents))), 4),
        }


@click.command()
@click.option("--films", default=6, show_default=True, help="How many films.")
@click.option("--steps", type=int, default=None, help="Steps of a film.  [default: the model's]")
@click.option("--seed", default=0, show_default=True, help="Which scenes.")
def main(films: int, steps: int | None, seed: int) -> None:
    """Make films, encode them again, and report."""
    pipeline = Pipeline.load()
    path = pipeline.model.folder.vae
    vae, encoder = (load(path, dtype=torch.float32, device=CPU) for load in (load_vae, load_vae_encoder))
    losses: dict[str, Loss] = {}
    for index in range(films):
        frames, latents = _film(pipeline, seed, index, steps)
        for way, found in _encoded(encoder, frames):
            own, expected = latents[:, : found.shape[1]], frames[: 4 * found.shape[1] - 3]
            losses.setdefault(way, Loss()).add(_decoded(vae, found), expected, found, own)
        click.echo(f"film {index + 1} of {films}: {len(frames)} frames", err=True)
    _report(losses, {"films": films, "steps": steps, "seed": seed, "torch": torch.__version__})


def _film(pipeline: Pipeline, seed: int, index: int, steps: int | None) -> tuple[Tensor, Tensor]:
    """A film's frames (frames, H, W, 3) and its latents."""
    scene = random_scene(np.random.default_rng([seed, index]), held_out=True)
    job = pipeline.prepare(storyboard(scene), Options(seed=index, steps=steps))
    done, sink = latents_of(pipeline.denoise(job)), MemorySink()
    finish(pipeline.decode(done, sink))
    return sink.tensor(), done.latents


def _encoded(encoder: VaeEncoder, frames: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Latents (16, F, h, w) of a film by each way."""
    yield "its frames", _latents(encoder, frames)
    yield "its mp4", _latents(encoder, _through_mp4(frames))
    yield "its frames, in tiles", _latents(encoder, frames, TILE)
    yield "its first frame", _latents(encoder, frames[:1])


def _latents(encoder: VaeEncoder, frames: Iterable[Tensor], tile: Tile | None = None) -> Tensor:
    with torch.inference_mode():
        return torch.stack(list(encode_frames(encoder, frames, tile)), dim=1)


def _decoded(vae: Vae, latents: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.stack([to_uint8(frame) for frame in decode_frames(vae, latents)])


def _through_mp4(frames: Tensor) -> list[Tensor]:
    """The frames as a player has them from the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        with VideoWriter(path, width=frames.shape[2], height=frames.shape[1], fps=FPS) as writer:
            for frame in frames:
                writer.add(frame)
        return [torch.from_numpy(frame) for frame in video_frames(path)]


def _report(losses: dict[str, Loss], told: dict[str, Any]) -> None:
    figures = {way: loss.figures for way, loss in losses.items()}
    click.echo(f"{'encoded from':24}{'PSNR, dB':>10}{'difference':>12}{'latents':>10}")
    for way, each in figures.items():
        click.echo(f"{way:24}{each['psnr']:10.2f}{each['difference']:12.3f}{each['latents']:10.4f}")
    click.echo(json.dumps({**told, "ways": figures}))


if __name__ == "__main__":
    main()
