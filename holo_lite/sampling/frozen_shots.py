"""Which latent frames of a clip are given and stay: names and numbers, kept in the settings of a run.

*Frozen* latents are those of a shot that was made before, of a picture, or of a video. The *memory* of a clip are
its first shots, all of them frozen, which the model sees and the video does not show.
"""

from __future__ import annotations

from dataclasses import dataclass

from holo_lite.errors import SettingsError
from holo_lite.story.shots import ShotLayout
from holo_lite.story.storyboard import Storyboard
from holo_lite.system.record_fields import Natural, Positive

KAPPA = 0.5  # of the noise of the others: measured in docs/directing.md
MEMORY_FRAMES = 2  # latent frames of a shot that is remembered


@dataclass(frozen=True)
class FrozenShot:
    """A shot whose first `frames` latent frames are given.

    shot: its number in the clip, from 1, memory included; source: the name of the video or picture they come from,
    without a folder, and `source_shot` its shot there; fingerprint: a hash of what was given.
    """

    shot: Positive
    frames: Positive
    source: str
    fingerprint: str
    source_shot: Positive | None = None


@dataclass(frozen=True)
class Frozen:
    """All that is given of a clip.

    memory: how many shots at its beginning are not shown; kappa: how noisy the model sees what is given, as a part
    of the noise of the others; before: frames of another video that were put in front of this one's.
    """

    shots: tuple[FrozenShot, ...] = ()
    memory: Natural = 0
    kappa: float = KAPPA
    before: Natural = 0

    def check(self, layout: ShotLayout) -> None:
        """Raise `SettingsError` for frames that the clip does not have, or a memory that is not given."""
        numbers = [shot.shot for shot in self.shots]
        if numbers != sorted(set(numbers)) or any(number > layout.shots for number in numbers):
            raise SettingsError(f"frozen: not the numbers of shots in ascending order: {numbers}")
        for shot in self.shots:
            if shot.frames > len(layout.frame_span(shot.shot - 1)):
                raise SettingsError(f"frozen: shot {shot.shot} does not have {shot.frames} latent frames")
        if numbers[: self.memory] != [*range(1, self.memory + 1)]:
            raise SettingsError(f"frozen: {self.memory} shots are not shown, and they are not all given")

    def whole_shots(self, layout: ShotLayout) -> frozenset[int]:
        """The numbers of shots of a clip of which every frame is given."""
        return frozenset(s.shot for s in self.shots if s.frames == len(layout.frame_span(s.shot - 1)))

    def latent_frames(self, layout: ShotLayout) -> tuple[int, ...]:
        """The numbers of all frozen latent frames of a clip, ascending."""
        spans = (layout.frame_span(shot.shot - 1)[: shot.frames] for shot in self.shots)
        return tuple(frame for span in spans for frame in span)


NOTHING_FROZEN = Frozen()


def as_named(board: Storyboard) -> Frozen:
    """What a storyboard names, before any file is looked at: every shot of memory as long as one usually is."""
    memory = board.memory
    shots = tuple(FrozenShot(n, MEMORY_FRAMES, each.file, "") for n, each in enumerate(memory, start=1))
    return Frozen(shots, len(memory))
