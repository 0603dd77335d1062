"""What would fit: the longest clip, the largest size, the smallest profile.

Each candidate has been through the same arithmetic. A shorter clip
keeps its shots in proportion, a smaller one its shape as far as multiples of 16 allow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from holo_lite.plan.machine import UNKNOWN
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.profile import Profile, shipped_profiles
from holo_lite.plan.search import Problem
from holo_lite.sampling.bounds import MOST_PIXELS
from holo_lite.story.shots import PIXELS_PER_TOKEN, ShotLayout, latent_frames
from holo_lite.story.timeline import MOST_FRAMES

MOST_ROWS = MOST_PIXELS // PIXELS_PER_TOKEN
MOST_LATENT_FRAMES = latent_frames(MOST_FRAMES)


def stretched(layout: ShotLayout, frames: int) -> ShotLayout:
    """The same shots in proportion over a number of latent frames, which must be at least the number of shots."""
    starts = [start * frames // layout.latent_frames for start in layout.starts]
    for shot in range(1, len(starts)):
        starts[shot] = max(starts[shot], starts[shot - 1] + 1)
    for left, shot in enumerate(reversed(range(len(starts)))):
        starts[shot] = min(starts[shot], frames - 1 - left)
    return dataclasses.replace(layout, starts=tuple(starts), latent_frames=frames)


def resized(layout: ShotLayout, rows: int) -> ShotLayout:
    """The same shots on frames of `rows` rows of tokens, and columns in proportion."""
    return dataclasses.replace(layout, rows=rows, columns=max(1, round(layout.columns * rows / layout.rows)))


def with_layout(problem: Problem, layout: ShotLayout) -> Problem:
    """The same problem with another clip."""
    return dataclasses.replace(problem, request=dataclasses.replace(problem.request, layout=layout))


def without_cache(problem: Problem) -> Problem:
    """The same problem without a step cache."""
    return dataclasses.replace(problem, request=dataclasses.replace(problem.request, cached=False))


def longest(problem: Problem) -> ClipRequest | None:
    """The longest clip of the same shots in proportion that fits, or None."""
    layout = problem.request.layout
    candidates = range(layout.shots, MOST_LATENT_FRAMES + 1)
    return _last(problem, candidates, lambda frames: stretched(layout, frames))


def longest_in_shots(problem: Problem, frames_a_shot: int) -> ClipRequest | None:
    """The longest clip that fits, in shots of the given number of latent frames each, or None."""

    def layout_of(frames: int) -> ShotLayout:
        starts = tuple(range(0, frames, frames_a_shot))
        return dataclasses.replace(problem.request.layout, starts=starts, latent_frames=frames)

    return _last(problem, range(1, MOST_LATENT_FRAMES + 1), layout_of)


def largest(problem: Problem) -> ClipRequest | None:
    """The clip on the largest frames of about the same shape that fits, or None."""
    layout = problem.request.layout
    widest = MOST_ROWS * layout.rows // max(layout.rows, layout.columns)
    return _last(problem, range(1, max(1, widest) + 1), lambda rows: resized(layout, rows))


def _last(problem: Problem, candidates: range, layout_of: Callable[[int], ShotLayout]) -> ClipRequest | None:
    """The clip of the last candidate that fits, or None."""
    last = last_fitting(problem, candidates, layout_of)
    return None if last is None else with_layout(problem, layout_of(last)).request


def last_fitting(problem: Problem, candidates: range, layout_of: Callable[[int], ShotLayout]) -> int | None:
    """The last candidate that fits, or None: they need more and more, so halving finds it."""
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        fits = with_layout(problem, layout_of(candidates[middle])).fits()
        low, high = (middle + 1, high) if fits else (low, middle)
    return candidates[low - 1] if low else None


def larger_profile(problem: Problem) -> Profile | None:
    """The smallest shipped profile for a card as large or larger, and free, on which the clip fits, or None."""
    for profile in shipped_profiles():
        larger = profile.device == "cuda" and profile.card >= problem.profile.card
        if larger and dataclasses.replace(problem, profile=profile, machine=UNKNOWN).fits():
            return profile
    return None


def size_text(layout: ShotLayout) -> str:
    """Width and height in pixels, as in ``832×480``."""
    return f"{layout.columns * PIXELS_PER_TOKEN}×{layout.rows * PIXELS_PER_TOKEN}"
