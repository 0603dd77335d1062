"""A film that is in memory, as an old one: shots of it are made again, or its story continues, without any file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from holo_lite.directing.given import Given, LatentsHeld, Source
from holo_lite.directing.old_film import OldFilm
from holo_lite.directing.remembering import remembered
from holo_lite.evaluation.outcome import Film
from holo_lite.sampling.frozen_shots import MEMORY_FRAMES, Frozen, FrozenShot
from holo_lite.settings import RunSettings
from holo_lite.story.storyboard import Reference, Storyboard

NAME = Path("film")


@dataclass(frozen=True, eq=False)
class HeldFilm(OldFilm):
    """A film with the latents (16, F, h, w) of its whole clip."""

    latents: Tensor

    @classmethod
    def of(cls, film: Film, settings: RunSettings) -> HeldFilm:
        """A clip that was just made."""
        return cls(NAME, settings, None, film.latents)

    def fingerprint(self) -> str:
        """A hash of its latents."""
        return hashlib.sha256(self.latents.contiguous().numpy().tobytes()).hexdigest()

    def source(self, frames: Sequence[int], _: tuple[int, int]) -> Source:
        """Those latent frames of its clip."""
        return LatentsHeld(self.latents[:, list(frames)])


def continued(
    film: HeldFilm, board: Storyboard, has_room: Callable[[Storyboard], bool]
) -> tuple[Storyboard, Given]:
    """A storyboard with its memory of a film, which is chosen as for any continuation; and what is given."""
    memory, _ = remembered(
        film,
        board.shot_captions(),
        lambda some: has_room(_with(board, [each.caption for each in some])),
    )
    spans = [film.latent_frames(each.place)[:MEMORY_FRAMES] for each in memory]
    mark = film.fingerprint()
    shots = tuple(FrozenShot(n, len(span), NAME.name, mark) for n, span in enumerate(spans, start=1))
    size = film.settings.height, film.settings.width
    source = film.source([frame for span in spans for frame in span], size)
    given = Given(Frozen(shots, len(shots)), (source,))
    return _with(board, [each.caption for each in memory]), given


def _with(board: Storyboard, captions: Sequence[str]) -> Storyboard:
    return replace(board, references=tuple(Reference(caption, video=NAME.name) for caption in captions))
