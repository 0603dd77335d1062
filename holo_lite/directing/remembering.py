"""What of a film is remembered while its story goes on: which shots, and in what words.

Every shot that the film shows is, cut down to its first latent frames; of those that it was made with itself so
many that the memory does not grow from one continuation to the next. Where that is too much for the prompt or the
card, captions are cut to their first sentence, and then shots are left out, the least telling first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from holo_lite.directing.old_film import OldFilm
from holo_lite.errors import SettingsError

USUAL = 5  # shots that are remembered of a chain of films; measured in docs/directing.md
TAG = re.compile(r"\[[^\[\]]+\]")
SENTENCE = re.compile(r"(?<=[.!?。！？])\s*")
Room = Callable[[Sequence["Remembered"]], bool]  # whether prompt and card have room for a memory


@dataclass(frozen=True)
class Remembered:
    """A shot of a film's clip, by its place from 0, and the caption it has as a memory."""

    place: int
    caption: str


def remembered(film: OldFilm, captions: Sequence[str], has_room: Room) -> tuple[list[Remembered], tuple[str, ...]]:
    """The memory for new shots of these captions, in the order of the film, and what a person should know of it.

    Raises `SettingsError` where there is room for no shot of it.
    """
    ranked = list(ranking(film.captions, captions))
    most = max(USUAL, film.shots)
    every = [place for place in ranked if place >= film.memory]
    every += [place for place in ranked if place < film.memory][: most - len(every)]
    every.sort(key=ranked.index)
    for short in (False, True):
        memory = _memory(film, every, short=short)
        if has_room(memory):
            return memory, (_shortened(),) if short else ()
    for count in range(len(every) - 1, 0, -1):
        memory = _memory(film, every[:count], short=True)
        if has_room(memory):
            return memory, (_shortened(), _left_out(film, every[count:]))
    raise SettingsError(
        f"there is no room for a memory of {film.path.name}: shorten the captions, or make fewer or shorter shots"
    )


def ranking(old: Sequence[str], new: Sequence[str]) -> Iterator[int]:
    """Places of old shots, the most telling first.

    Of every character whom the new captions name: the shot that introduces them, then the last other one; then all
    shots that show one of them, and all others, the latest first.
    """
    named = list(dict.fromkeys(tag for caption in new for tag in TAG.findall(caption)))
    shown = {tag: [place for place, caption in enumerate(old) if tag in caption] for tag in named}
    latest = range(len(old) - 1, -1, -1)
    order = [places[0] for places in shown.values() if places]
    order += [places[-1] for places in shown.values() if len(places) > 1]
    order += [place for place in latest if any(place in places for places in shown.values())]
    yield from dict.fromkeys([*order, *latest])


def tags_and_framing(caption: str) -> str:
    """A caption's first sentence, which says how the shot is framed, and the tags of all whom the rest shows."""
    first, *rest = [part for part in SENTENCE.split(caption) if part.strip()] or [caption]
    missing = [tag for tag in dict.fromkeys(TAG.findall(" ".join(rest))) if tag not in first]
    return f"{first.strip()} With {' and '.join(missing)}." if missing else first.strip()


def _memory(film: OldFilm, places: Sequence[int], *, short: bool) -> list[Remembered]:
    captions = film.captions
    return [Remembered(p, tags_and_framing(captions[p]) if short else captions[p]) for p in sorted(places)]


def _shortened() -> str:
    return "captions of remembered shots are cut to their first sentence: all of them are too much for one prompt"


def _left_out(film: OldFilm, places: Sequence[int]) -> str:
    names = ", ".join(str(place - film.memory + 1) for place in sorted(places) if place >= film.memory)
    return f"there is no room to remember all of {film.path.name}: left out shots {names}" if names else ""
