"""The pictures and shots of videos that a storyboard names, as what is given of its clip.

A reference is a shot of memory: two latent frames of a picture that stands still, or the first two of a video's
shot. A picture with which a shot begins is its first latent frame, and stands in the memory, too: alone it is too
weak (docs/directing.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from holo_lite.directing.given import EncodedFrames, Frames, Given, Source
from holo_lite.directing.old_film import OldFilm
from holo_lite.directing.pictures import picture_hash, read_picture
from holo_lite.errors import OutputError, SettingsError, StoryboardError
from holo_lite.film.fitting import Pixels, covering, cut_off
from holo_lite.sampling.frozen_shots import MEMORY_FRAMES, Frozen, FrozenShot
from holo_lite.story.named_shots import NamedShot
from holo_lite.story.shots import FRAMES_PER_LATENT
from holo_lite.story.storyboard import Reference, Storyboard, naming

Size = tuple[int, int]  # height and width of the clip, in pixels
Films = Mapping[str, OldFilm]  # by the paths by which a storyboard names them
NONE_OPEN: Films = MappingProxyType({})


@dataclass(frozen=True)
class Part:
    """What one picture or shot of a video gives: `frames` latent frames, and where they come from."""

    shot: FrozenShot
    source: Source
    notes: tuple[str, ...] = ()


def pictured(board: Storyboard, size: Size, films: Films = NONE_OPEN) -> Given:
    """What a storyboard gives of its clip. Pictures are read; of videos, their settings, unless `films` has them.

    Raises `StoryboardError` for a picture or video that cannot be used.
    """
    with naming(board.source):
        memory = board.memory
        part = partial(_part, board, size, films)
        parts = [part(each, n, first=n == 1) for n, each in enumerate(memory, start=1)]
        for n, shot in enumerate(board.shots, start=len(memory) + 1):
            if shot.remembered is not None:
                parts.append(part(shot.remembered, n, first=False, frames=1))
    notes = tuple(dict.fromkeys(note for each in parts for note in each.notes))
    frozen = Frozen(tuple(each.shot for each in parts), len(memory))
    return Given(frozen, tuple(each.source for each in parts), notes)


def _part(
    board: Storyboard,
    size: Size,
    films: Films,
    named: Reference,
    number: int,
    *,
    first: bool,
    frames: int = MEMORY_FRAMES,
) -> Part:
    if named.image is not None:
        return _of_picture(place_of(board, named.image), size, number, frames, first=first)
    shot = NamedShot.of(named.file)
    with _of_storyboard():
        film = films.get(shot.video) or OldFilm.read(place_of(board, shot.video))
        return _of_video(film, shot, size, number, frames)


def _of_picture(path: Path, size: Size, number: int, frames: int, *, first: bool) -> Part:
    """A picture that stands still. The clip's first latent frame holds one frame, and every other four."""
    picture = read_picture(path)
    lost, pixels = cut_off(picture.size, *size), covering(picture, *size)
    before = 0 if first else 1
    pictures = FRAMES_PER_LATENT * (before + frames - 1) + 1
    places = tuple(range(before, before + frames))
    shot = FrozenShot(number, frames, path.name, picture_hash(path))
    notes = (f"{path.name}: {lost}",) if lost else ()
    return Part(shot, EncodedFrames(partial(_still, pixels, pictures), pictures, places), notes)


def _of_video(film: OldFilm, named: NamedShot, size: Size, number: int, frames: int) -> Part:
    """The first latent frames of a shot of a video, or of the video itself."""
    span = film.latent_frames(named.place(film.memory, film.shots))[:frames]
    source_shot = None if named.is_memory else named.number
    shot = FrozenShot(number, len(span), film.path.name, film.fingerprint(), source_shot)
    return Part(shot, film.source(span, size), film.notes)


@contextmanager
def _of_storyboard() -> Iterator[None]:
    """What is wrong with a video is wrong with the storyboard that names it."""
    try:
        yield
    except (OutputError, SettingsError) as error:
        raise StoryboardError(str(error)) from error


def _still(pixels: Pixels, pictures: int) -> Frames:
    return iter([pixels] * pictures)


def place_of(board: Storyboard, name: str) -> Path:
    """Where a file is that a storyboard names: seen from the storyboard's own folder.

    Raises `StoryboardError` for one on a network, which a storyboard of a stranger may name.
    """
    if name.startswith(("\\\\", "//")) or "://" in name:
        raise StoryboardError(f"{name!a}: is on a network; copy the file here and name the copy")
    source = Path(board.source) if board.source else None
    return source.parent / name if source is not None else Path(name)
