"""How a storyboard times its shots, which decides what a person types for a longer or shorter video."""

from __future__ import annotations

from dataclasses import dataclass

from holo_lite.story.shots import even_cuts
from holo_lite.story.storyboard import Storyboard
from holo_lite.story.timeline import asked_durations


@dataclass(frozen=True)
class Timing:
    """The way of timing: `durations` of all shots in frames, an `even` split of the length, or else cuts.

    fps: frames a second.
    """

    fps: float
    even: bool = False
    durations: tuple[float, ...] = ()

    @classmethod
    def of(cls, storyboard: Storyboard, frames: int, cuts: tuple[int, ...], fps: float) -> Timing:
        """The timing of a storyboard that was resolved to so many frames and these cuts."""
        even = not storyboard.cuts and cuts == even_cuts(frames, len(cuts) + 1)
        return cls(fps, even, asked_durations(storyboard, fps))
