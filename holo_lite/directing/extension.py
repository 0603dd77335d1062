"""A film continued: new shots that remember the old ones, which are not shown again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from holo_lite.directing.direction import Directed, Fits
from holo_lite.directing.old_film import OldFilm
from holo_lite.directing.remembering import Remembered, Room, remembered
from holo_lite.errors import SettingsError
from holo_lite.reading import values
from holo_lite.settings import Options
from holo_lite.story.files import AnyStoryboard, as_storyboard
from holo_lite.story.storyboard import Reference, Storyboard

OWN = ("frames", "cuts")  # options that a continuation does not take from its film


@dataclass(frozen=True)
class Extension:
    """A video and the storyboard of what follows. remember: numbers of the shots to remember; None: as fits."""

    video: str | Path
    storyboard: AnyStoryboard
    remember: tuple[int, ...] | None = None

    def directed(self, said: Options, fits: Fits) -> Directed:
        """The storyboard with its memory, and the options: those given, then its own, then the video's.

        Raises `OutputError` for a video that cannot be used, `StoryboardError`, and `SettingsError` for shots that
        it does not have, or another size.
        """
        film = OldFilm.read(values.path("video", self.video))
        return extended(film, as_storyboard(self.storyboard), said, fits, self.remember)


def extended(
    film: OldFilm, board: Storyboard, said: Options, fits: Fits, remember: Sequence[int] | None = None
) -> Directed:
    """A storyboard with its memory of a film, and its options. Raises `SettingsError`, as `Extension` does."""
    options = _options(film, board, said)
    memory, notes = _memory(film, board, remember, lambda memory: fits(_with(film, board, memory), options))
    films = {name_of(film): film}
    return Directed(_with(film, board, memory), options, notes=tuple(filter(None, notes)), films=films)


def name_of(film: OldFilm) -> str:
    """What a storyboard calls a film whose shots it remembers."""
    return str(film.path.absolute())


def _memory(
    film: OldFilm, board: Storyboard, remember: Sequence[int] | None, has_room: Room
) -> tuple[list[Remembered], tuple[str, ...]]:
    if remember is None:
        return remembered(film, board.shot_captions(), has_room)
    if not remember:
        raise SettingsError("no shot is to be remembered; name one, or type `holo-lite generate`")
    places = sorted({film.place(number) for number in values.wholes("remember", remember)})
    return [Remembered(place, film.captions[place]) for place in places], ()


def _with(film: OldFilm, board: Storyboard, memory: Sequence[Remembered]) -> Storyboard:
    """A storyboard with a memory of a film before the references of its own."""
    references = [Reference(each.caption, video=f"{name_of(film)}#{_name(film, each)}") for each in memory]
    return dataclasses.replace(board, references=(*references, *board.references))


def _name(film: OldFilm, each: Remembered) -> str:
    shown = each.place - film.memory + 1
    return str(shown) if shown > 0 else f"m{each.place + 1}"


def _options(film: OldFilm, board: Storyboard, said: Options) -> Options:
    was, found = film.settings.options, {}
    for option in dataclasses.fields(Options):
        given, written = getattr(said, option.name), getattr(board, option.name, None)
        old = None if option.name in OWN else getattr(was, option.name)
        found[option.name] = given if given is not None or written is not None else old
    for side in ("height", "width"):
        wanted = next((value for value in (found[side], getattr(board, side)) if value is not None), None)
        if wanted not in {None, getattr(film.settings, side)}:
            raise SettingsError(f"{side}: stays that of {film.path.name}, which goes on; leave it out")
    return Options(**found)
