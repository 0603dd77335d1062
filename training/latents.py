"""The clips the transformer learns from: drawn once, encoded once, kept as latents with their storyboards."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holo_lite.tiny.drawing import draw
from holo_lite.tiny.world import Act, Character, Scene, Trait, Wall, random_scene
from training.loop import Part

LOG = logging.getLogger(__name__)
LENGTHS = (9, 11, 13, 15, 17)  # latent frames; clips of one length make one batch
FILE = 64  # clips in one file
BATCH = 8


@dataclass(frozen=True)
class Clips:
    """Clips of one length. latents: (n, 16, F, h, w), normalised; scenes: what they show."""

    latents: Tensor
    scenes: tuple[Scene, ...]

    def __getitem__(self, which: slice) -> Clips:
        """Some of them."""
        return Clips(self.latents[which], self.scenes[which])


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each latent channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def share_out(clips: int, shares: Sequence[float]) -> dict[int, int]:
    """How many of so many clips are of each length: as they are shown in training, in whole files."""
    return {length: FILE * round(clips * share / FILE) for length, share in zip(LENGTHS, shares, strict=True)}


def encode_clips(vae: Any, counts: Mapping[int, int], part: Part) -> bool:
    """Draw and encode so many clips of each length, as far as this part has time. → whether all are there."""
    for length, count in counts.items():
        for first in range(0, count, FILE):
            path = part.folder / f"latents-{length}-{first}.pt"
            if path.is_file():
                continue
            if part.over:
                return False
            _write(path, vae, length, range(first, first + FILE))
    return True


def read_clips(folder: Path, length: int, scale: Scale) -> Clips:
    """All clips of one length, their latents normalised."""
    latents, scenes = [], []
    for path in sorted(folder.glob(f"latents-{length}-*.pt")):
        found = torch.load(path, weights_only=True)
        latents.append(found["latents"].float())
        scenes += [scene_from(plain) for plain in found["scenes"]]
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (scale.mean, scale.std))
    return Clips((torch.cat(latents) - mean) / std, tuple(scenes))


def measure_scale(folder: Path) -> Scale:
    """Mean and deviation over all encoded clips of middle length."""
    paths = sorted(folder.glob(f"latents-{LENGTHS[len(LENGTHS) // 2]}-*.pt"))
    latents = torch.cat([torch.load(path, weights_only=True)["latents"].float() for path in paths])
    mean, std = (measure(dim=(0, 2, 3, 4)).tolist() for measure in (latents.mean, latents.std))
    return Scale(tuple(mean), tuple(std))


def scene_from(plain: dict[str, Any]) -> Scene:
    """A scene from what `dataclasses.asdict` made of it."""
    characters = (Character(c["colour"], c["shape"], Trait(**c["trait"])) for c in plain["characters"])
    acts = (Act(**{**act, "cast": tuple(act["cast"])}) for act in plain["acts"])
    return Scene(Wall(**plain["wall"]), tuple(characters), tuple(acts))


def _write(path: Path, vae: Any, length: int, numbers: range) -> None:
    started = time.monotonic()
    scenes = [
        random_scene(np.random.default_rng((length, number)), held_out=False, latents=length) for number in numbers
    ]
    latents = [_encode(vae, scenes[first : first + BATCH]) for first in range(0, len(scenes), BATCH)]
    draft = path.with_suffix(".part")
    torch.save({"latents": torch.cat(latents), "scenes": [dataclasses.asdict(scene) for scene in scenes]}, draft)
    os.replace(draft, path)
    LOG.info("%s in %.0f s", path.stem, time.monotonic() - started)


@torch.inference_mode()
def _encode(vae: Any, scenes: list[Scene]) -> Tensor:
    clips = torch.from_numpy(np.stack([draw(scene) for scene in scenes])).float() / 127.5 - 1
    with torch.autocast("cpu", torch.bfloat16):
        return vae.encode(clips.permute(0, 4, 1, 2, 3)).latent_dist.mean  # type: ignore[no-any-return]
