"""A clip with a memory: frozen shots before the first, which the model sees and the video does not show.

The clip's first latent frame holds one frame and every other four, so what follows a memory of m latent frames
begins at frame 4m-3, and a video of 4t+1 frames becomes one of 4(t+1): its first latent frame is not the clip's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from holo_lite.story.shots import FRAMES_PER_LATENT


def behind(frames: int, cuts: tuple[int, ...], memory: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Length and cuts of a whole clip: shots of memory, of so many latent frames each, before a video's."""
    if not memory:
        return frames, cuts
    ends = tuple(accumulate(memory))
    later = FRAMES_PER_LATENT * ends[-1]
    return frames + later, (*(_begins(end) for end in ends), *(cut + later for cut in cuts))


def _begins(latent: int) -> int:
    """The first frame of a latent frame that is not the clip's first."""
    return FRAMES_PER_LATENT * latent - FRAMES_PER_LATENT + 1


def without(frames: int, cuts: tuple[int, ...], memory: int) -> tuple[int, tuple[int, ...]]:
    """Length and cuts as they were before `behind` put `memory` shots in front of them."""
    if not memory:
        return frames, cuts
    later = cuts[memory - 1] + FRAMES_PER_LATENT - 1
    return frames - later, tuple(cut - later for cut in cuts[memory:])
