"""A film that is in memory, as an old one: shots of it are made again, or its story continues, without any file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from holo_lite.directing.direction import Directed, Fits
from holo_lite.directing.extension import extended
from holo_lite.directing.given import LatentsHeld, Source
from holo_lite.directing.old_film import OldFilm
from holo_lite.evaluation.outcome import Film
from holo_lite.settings import Options, RunSettings
from holo_lite.story.storyboard import Storyboard

NAME = Path("film.mp4")


@dataclass(frozen=True, eq=False)
class HeldFilm(OldFilm):
    """A film with the latents (16, F, h, w) of its whole clip."""

    latents: Tensor

    @classmethod
    def of(cls, film: Film, settings: RunSettings) -> HeldFilm:
        """A clip that was just made."""
        return cls(NAME, settings, None, film.latents)

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing to know: its latents are there."""
        return ()

    def fingerprint(self) -> str:
        """A hash of its latents."""
        return hashlib.sha256(self.latents.contiguous().numpy().tobytes()).hexdigest()

    def source(self, frames: Sequence[int], _: tuple[int, int]) -> Source:
        """Those latent frames of its clip."""
        return LatentsHeld(self.latents[:, list(frames)])


@dataclass(frozen=True)
class Continuation:
    """A film that is in memory and the storyboard of what follows: an `Extension` without a file."""

    film: HeldFilm
    storyboard: Storyboard

    def directed(self, said: Options, fits: Fits) -> Directed:
        """The storyboard with its memory, which is chosen as for any continuation. Raises as `Extension` does."""
        return extended(self.film, self.storyboard, said, fits)
