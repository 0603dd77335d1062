"""What is given of a clip: which of its latent frames are frozen, and where their clean latents come from.

Nothing is read here before a run asks for it; which frames, and a hash of what they come from, is known before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from holo_lite.runs.kept_latents import read_latents
from holo_lite.sampling.frozen_shots import NOTHING_FROZEN, Frozen
from holo_lite.settings import RunSettings

T = TypeVar("T")
Frames = Iterator[npt.NDArray[np.uint8]]  # (H, W, 3), RGB
Reading = Generator[int, None, Tensor]  # how many frames are encoded so far; at the end (16, n, h, w) fp32, CPU
Encode = Callable[[Frames], Reading]  # of 4t+1 frames, t+1 latent frames


class Source(Protocol):
    """Where the clean latents of some frozen frames come from."""

    @property
    def pictures(self) -> int:
        """How many frames have to be encoded for it."""

    def latents(self, encode: Encode) -> Reading:
        """Clean latents (16, n, h, w). Raises `OutputError` for a file that is not what it was."""


@dataclass(frozen=True)
class KeptLatents:
    """Some latent frames of a finished video, by their numbers, from the file next to it."""

    path: Path
    of: RunSettings
    frames: tuple[int, ...]
    pictures: int = 0

    def latents(self, _: Encode) -> Reading:
        """Read the whole file, whose seal says that it is whole."""
        yield from ()
        return read_latents(self.path, self.of)[:, list(self.frames)]


@dataclass(frozen=True)
class EncodedFrames:
    """Some latent frames, by their numbers, of frames that must be encoded, which `open` gives from the first."""

    open: Callable[[], Frames]
    pictures: int
    frames: tuple[int, ...]

    def latents(self, encode: Encode) -> Reading:
        """Encode all of the frames, since each latent frame depends on those before it."""
        latents = yield from encode(self.open())
        return latents[:, list(self.frames)]


@dataclass(frozen=True)
class LatentsHeld:
    """Latents that are in memory: (16, n, h, w) fp32."""

    tensor: Tensor
    pictures: int = 0

    def latents(self, _: Encode) -> Reading:
        """The tensor itself."""
        yield from ()
        return self.tensor


@dataclass(frozen=True)
class Given:
    """All that is given of a clip; `sources` have the frozen frames in its order. notes: for a person."""

    frozen: Frozen = NOTHING_FROZEN
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def pictures(self) -> int:
        """How many frames have to be encoded."""
        return sum(source.pictures for source in self.sources)

    def latents(self, encode: Encode) -> Reading:
        """Clean latents of all frozen frames, in their order. Raises `OutputError`."""
        found, done = [], 0
        for source in self.sources:
            reading = source.latents(encode)
            found.append((yield from passed_on(reading, done.__add__)))
            done += source.pictures
        return torch.cat(found, dim=1)


def passed_on(reading: Reading, told: Callable[[int], T]) -> Generator[T, None, Tensor]:
    """A reading that says how far it is in other words."""
    while True:
        try:
            done = next(reading)
        except StopIteration as end:
            latents: Tensor = end.value
            return latents
        yield told(done)


NOTHING_GIVEN = Given()
