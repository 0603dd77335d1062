"""What a soak makes: small scenes of the drawn world, and how each comes out when nobody disturbs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from holo_lite.settings import Options
from holo_lite.story.files import load_storyboard
from holo_lite.story.storyboard import Storyboard
from holo_lite.tiny.words import storyboard
from holo_lite.tiny.world import random_scene

SIZES = ((32, 48), (48, 64), (64, 112), (96, 128))  # the last is decoded in tiles where memory runs out
LATENTS = range(4, 7)  # latent frames: 13 to 21 frames in two or three shots
STEPS = range(3, 7)
CACHED = 0.25  # part of the films with a step cache, and then of twice the steps
SKIP = 1.0  # the step cache's threshold: whatever it may skip, it does


@dataclass(frozen=True)
class Film:
    """A storyboard in a file, and how it is to be made."""

    path: Path
    board: Storyboard
    options: Options

    @property
    def steps(self) -> int:
        """Denoising steps."""
        assert self.options.steps is not None, "all films say it"
        return self.options.steps

    def words(self) -> list[str]:
        """The same on the command line, behind `holo-lite generate`."""
        said = self.options
        numbers = {"height": said.height, "width": said.width, "steps": said.steps, "seed": said.seed}
        words = [word for name, number in numbers.items() for word in (f"--{name}", str(number))]
        return [str(self.path), *words, *(["--cache", str(SKIP)] if said.cache else [])]


def draw_film(path: Path, rng: np.random.Generator) -> Film:
    """Draw a film and write its storyboard, a JSON file, to `path`."""
    board = storyboard(random_scene(rng, held_out=False, latents=int(rng.integers(LATENTS.start, LATENTS.stop))))
    shots = [{"caption": shot.caption, "frames": shot.frames} for shot in board.shots]
    path.write_text(json.dumps({"global": board.global_caption, "shots": shots}), encoding="utf-8")
    height, width = SIZES[int(rng.integers(len(SIZES)))]
    steps, cached = int(rng.integers(STEPS.start, STEPS.stop)), rng.random() < CACHED
    options = Options(
        height=height,
        width=width,
        steps=2 * steps if cached else steps,
        seed=int(rng.integers(2**31)),
        cache=(SKIP, SKIP) if cached else None,
    )
    return Film(path, load_storyboard(path), options)


@dataclass(frozen=True)
class Reference:
    """A film that nobody disturbed, and what its making consists of.

    latents: the clean ones, (16, F, h, w) fp32. video, sheet: files, byte for byte. changes: the calls that change
    the disk, by name, in order. allocations: tensors made, by phase. events: how many a run tells.
    """

    latents: Tensor
    video: bytes
    sheet: bytes
    changes: tuple[str, ...]
    allocations: Mapping[str, int]
    events: int


def files_of(video: Path) -> tuple[bytes, bytes]:
    """A video and its contact sheet, byte for byte."""
    return video.read_bytes(), video.with_suffix(".png").read_bytes()
