"""What a person may ask for: a storyboard, shots of a video again, or a video continued, as one thing to make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from holo_lite.directing.given import Given
from holo_lite.directing.old_film import OldFilm
from holo_lite.settings import Options
from holo_lite.story.files import AnyStoryboard
from holo_lite.story.storyboard import Storyboard

Fits = Callable[[Storyboard, Options], bool]  # whether the model can read its prompt, and the card make it


@dataclass(frozen=True)
class Directed:
    """A storyboard with its options: what every way of directing comes to.

    given: what is given of its clip; None: what the storyboard names. films: those of the videos it names that are
    open, by the paths by which it names them.
    """

    board: Storyboard
    options: Options
    given: Given | None = None
    notes: tuple[str, ...] = ()
    films: Mapping[str, OldFilm] = field(default_factory=dict)


class Direction(Protocol):
    """What comes to a storyboard only with a film that is there: `Retake` and `Extension` are such."""

    def directed(self, said: Options, fits: Fits, /) -> Directed:
        """The storyboard, with its options where `said` says nothing. `fits` tells whether one can be made."""


AnyFilm = AnyStoryboard | Direction
