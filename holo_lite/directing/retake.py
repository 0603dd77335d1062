"""Shots of a video made again: all others are frozen, and the new ones see them while they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from holo_lite.directing.direction import Directed, Fits
from holo_lite.directing.given import Given
from holo_lite.directing.old_film import OldFilm
from holo_lite.errors import SettingsError
from holo_lite.reading import values
from holo_lite.sampling.frozen_shots import FrozenShot
from holo_lite.settings import Options
from holo_lite.story.storyboard import Storyboard

Again = Mapping[int, str | None]  # shots by their numbers, from 1, each with its new caption; None: the old one
FIXED = ("frames", "cuts", "height", "width")  # options that would make another clip


@dataclass(frozen=True)
class Retake:
    """Shots of a video made again, by their numbers from 1, each with its new caption or None; all others stay."""

    video: str | Path
    shots: Again

    def directed(self, said: Options, _: Fits) -> Directed:
        """The storyboard and its options, which are the video's where nothing else is said.

        Raises `OutputError` for a video that cannot be used, and `SettingsError` for shots that it does not have.
        """
        film = OldFilm.read(values.path("video", self.video))
        again = {_number(shot): caption for shot, caption in self.shots.items()}
        board, given = retaken(film, again)
        options, notes = retaking_options(film, said, captions=any(again.values()))
        return Directed(board, options, given, notes)


def _number(shot: object) -> int:
    if isinstance(shot, bool) or not isinstance(shot, int):
        raise SettingsError(f"shots: {shot!r} is no number of a shot; give one such as {{3: 'A new caption.'}}")
    return shot


def retaken(film: OldFilm, again: Again) -> tuple[Storyboard, Given]:
    """The storyboard of a video with these shots made again, and what is given of its clip: all the others.

    Raises `SettingsError` for shots that are not there, for none, and where no shot is left to be given.
    """
    if not again:
        raise SettingsError("no shot is named; give --shot with the number of the one to make again")
    if film.settings.frozen.before:
        raise SettingsError(
            f"{film.path.name}: is two videos joined; make a shot of one of the two again, and join them again"
        )
    places = {film.place(number) for number in sorted(again)}
    if len(places) == film.shots:
        raise SettingsError(
            f"all shots of {film.path.name} are named, and nothing of it would stay; "
            "type `holo-lite generate` to make all of it again"
        )
    board = film.settings.storyboard.with_captions(
        [again.get(number) or caption for number, caption in enumerate(film.settings.shown_captions, start=1)]
    )
    frozen = tuple(_frozen(film, places))
    kept = [frame for shot in frozen for frame in film.latent_frames(shot.shot - 1)[: shot.frames]]
    source = film.source(kept, (film.settings.height, film.settings.width))
    given = dataclasses.replace(film.settings.frozen, shots=frozen)
    return board, Given(given, (source,), film.notes)


def retaking_options(film: OldFilm, said: Options, *, captions: bool) -> tuple[Options, tuple[str, ...]]:
    """The options of a video, and those given in their place; and what a person should know about them.

    With neither another seed nor other captions, the next seed is taken: nothing else would change. Raises
    `SettingsError` for options that would make another clip.
    """
    was = film.settings.options
    for name in FIXED:
        if getattr(said, name) not in {None, getattr(film.settings, name)}:
            raise SettingsError(f"{name}: stays that of {film.path.name}, whose other shots are kept; leave it out")
    given = {name: value for name, value in vars(said).items() if value is not None and name not in FIXED}
    if said.seed is not None or captions:
        return dataclasses.replace(was, **given), ()
    seed = (film.settings.seed + 1) % 2**32
    return dataclasses.replace(was, **given, seed=seed), (
        f"seed {seed}, since with the old one nothing would change",
    )


def _frozen(film: OldFilm, again: set[int]) -> list[FrozenShot]:
    """Every shot of the clip that stays, whole, and of those made again the pictures with which they begin."""
    before = {shot.shot: shot for shot in film.settings.frozen.shots}
    layout, print_ = film.settings.layout, film.fingerprint()
    found = []
    for place in range(layout.shots):
        number, frames = place + 1, len(layout.frame_span(place))
        if place < film.memory or (place in again and number in before):
            found.append(before[number])
        elif place not in again:
            found.append(FrozenShot(number, frames, film.path.name, print_, number - film.memory))
    return found
