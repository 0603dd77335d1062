"""What a person may ask for: a storyboard, shots of a video again, or a video continued, as one thing to make."""

from __future__ import annotations

from typing import Protocol

from holo_lite.directing.directed import Directed, Fits
from holo_lite.settings import Options
from holo_lite.story.files import AnyStoryboard


class Direction(Protocol):
    """What comes to a storyboard only with a film that is there: `Retake` and `Extension` are such."""

    def directed(self, said: Options, fits: Fits, /) -> Directed:
        """The storyboard, with its options where `said` says nothing. `fits` tells whether one can be made."""


AnyFilm = AnyStoryboard | Direction
