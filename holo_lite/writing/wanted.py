"""What a person wants to have written: an idea, a number of shots, a length."""

from __future__ import annotations

import math
from dataclasses import dataclass

from holo_lite.config import Defaults
from holo_lite.errors import SettingsError
from holo_lite.reading import values
from holo_lite.story.shots import round_frames
from holo_lite.story.timeline import MOST_FRAMES
from holo_lite.writing.lengths import fewest_frames

LONGEST_IDEA = 4000  # characters
MOST_SHOTS = 24  # with more there are too few of 512 tokens for each


@dataclass(frozen=True)
class Wanted:
    """The order: the idea on one line, the number of shots, the length in seconds at so many frames a second.

    Raises:
        SettingsError: there is no idea, or no storyboard can be of that kind.
    """

    idea: str
    shots: int
    seconds: float
    fps: float = Defaults.fps

    def __post_init__(self) -> None:
        object.__setattr__(self, "idea", " ".join(values.text("idea", self.idea).split()))
        object.__setattr__(self, "shots", values.whole("shots", self.shots))
        object.__setattr__(self, "seconds", values.real("seconds", self.seconds))
        if not 0 < len(self.idea) <= LONGEST_IDEA:
            raise SettingsError(f"the idea has {len(self.idea)} characters; write one of 1 to {LONGEST_IDEA}")
        if not 1 <= self.shots <= MOST_SHOTS:
            raise SettingsError(f"{self.shots} shots: give 1 to {MOST_SHOTS}; all captions share 512 tokens")
        shortest, longest = fewest_frames(self.shots) / self.fps, MOST_FRAMES / self.fps
        if not (math.isfinite(self.seconds) and shortest <= self.seconds <= longest):
            raise SettingsError(
                f"{self.seconds:g} seconds for {self.shots} shots: give {math.ceil(10 * shortest) / 10:g} to "
                f"{int(longest)}"
            )

    @property
    def frames(self) -> int:
        """The length in frames, of the form 4t+1."""
        return round_frames(round(self.seconds * self.fps))
