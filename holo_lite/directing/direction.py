"""What a person may ask for: a storyboard, shots of a video again, or a video continued, as one thing to make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from holo_lite.directing.given import Given
from holo_lite.directing.old_film import OldFilm
from holo_lite.directing.retake import Again, retaken, retaking_options
from holo_lite.errors import SettingsError
from holo_lite.reading import values
from holo_lite.settings import Options
from holo_lite.story.files import AnyStoryboard
from holo_lite.story.storyboard import Storyboard

Fits = Callable[[Storyboard], bool]  # whether the model can read its prompt


@dataclass(frozen=True)
class Directed:
    """A storyboard with its options. given: what is given of its clip; None: what the storyboard names."""

    board: Storyboard
    options: Options
    given: Given | None = None
    notes: tuple[str, ...] = ()


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


AnyFilm = AnyStoryboard | Retake
