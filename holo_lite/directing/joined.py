"""An old film and what continues it, as one video: it has the settings of its last part, and can go on from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from holo_lite.directing.old_film import OldFilm
from holo_lite.film.joining import join_videos
from holo_lite.film.video import probe
from holo_lite.settings import RunSettings


def as_joined(settings: RunSettings, frames: int) -> RunSettings:
    """The settings of a continuation with so many frames of its film before it."""
    return dataclasses.replace(settings, frozen=dataclasses.replace(settings.frozen, before=frames))


def join(film: Path, continuation: Path) -> None:
    """Put a film before what continues it, in the file of that; nothing if it is there. Raises `OutputError`."""
    part, frames = OldFilm.read(continuation), probe(film).frames
    if part.settings.frozen.before:
        return
    join_videos(film, continuation, continuation, as_joined(part.settings, frames).to_json())
