"""What a person can type for a clip that fits: in options, or in the words of the storyboard.

A length is typed as `--frames` where the shots share it evenly, with `--cuts` where they do not. Where every shot
has a duration, neither option applies, and the durations themselves must be changed: by a factor. Multiplied
durations are rounded, so a factor is only given if the clip would fit with two more latent frames, in all and in
the longest shot.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from holo_lite.errors import FitError
from holo_lite.plan.nearest import larger_profile, largest, last_fitting, longest, size_text, without_cache
from holo_lite.plan.search import Problem
from holo_lite.story.shots import FRAMES_PER_LATENT, PIXELS_PER_TOKEN, ShotLayout, even_cuts
from holo_lite.story.timeline import MOST_FRAMES, SAFE_SPACING, roomy_frames
from holo_lite.system.units import memory_text

SPARE = 2  # latent frames that the rounding of durations may add
TENTHS = 10  # factors are told in tenths
PHASE_NAMES = {
    "text": "reading the prompt",
    "high_noise": "denoising",
    "low_noise": "denoising",
    "decode": "decoding",
}


@dataclass(frozen=True)
class Advice:
    """A clip that fits: its size, and what to type for it or to change in the storyboard.

    seconds: None where no frame rate is known; factor: what durations are multiplied with, where shots have any.
    """

    frames: int
    seconds: float | None
    width: int
    height: int
    typed: str
    factor: float | None = None

    @property
    def text(self) -> str:
        """For a sentence: ``--frames 481 (32.1 s)``."""
        length = f"{self.seconds:.1f} s" if self.seconds is not None else ""
        if self.factor is not None:
            length = f"{self.frames} frames, {length}"
        return f"{self.typed} ({length})" if length else self.typed


def longest_advice(problem: Problem) -> Advice | None:
    """The longest clip of these shots that fits, or None; with durations also None if they cannot become longer."""
    timing = problem.request.timing
    if timing is not None and timing.durations:
        return _scaled(problem, timing.durations)
    if timing is not None and timing.even:
        return _even(problem)
    found = longest(problem)
    if found is None:
        return None
    if timing is None:
        return _advice(problem, found.frames, f"{found.frames} frames with the shots in proportion")
    cuts = ",".join(str(FRAMES_PER_LATENT * (start - 1) + 1) for start in found.layout.starts[1:])
    return _advice(problem, found.frames, f"--frames {found.frames} --cuts {cuts}")


def largest_advice(problem: Problem) -> Advice | None:
    """The largest picture of about this shape that fits at this length, or None."""
    found = largest(problem)
    if found is None:
        return None
    width, height = (side * PIXELS_PER_TOKEN for side in (found.layout.columns, found.layout.rows))
    return Advice(found.frames, None, width, height, f"--width {width} --height {height}")


def refusal(problem: Problem) -> FitError:
    """Say what is lacking, and the nearest clips and profile that would do."""
    name, need = max(problem.least().items(), key=lambda phase: phase[1])
    short = f"needs {memory_text(need)} for {PHASE_NAMES[name]}, has {memory_text(problem.room)}"
    request, found = problem.request, list(_alternatives(problem))
    advice = f"what fits: {', or '.join(found)}" if found else "nothing close to it fits"
    return FitError(
        f"{request.frames} frames at {size_text(request.layout)} need {memory_text(need)} for {PHASE_NAMES[name]}; "
        f"profile {problem.profile.name} gives {memory_text(problem.room)} here; {advice}",
        short,
    )


def _alternatives(problem: Problem) -> Iterator[str]:
    yield from (advice.text for advice in (longest_advice(problem), largest_advice(problem)) if advice)
    if problem.request.cached and without_cache(problem).fits():
        yield "the same without --cache"
    if profile := larger_profile(problem):
        yield f"a free card for the profile {profile.name}"


def _even(problem: Problem) -> Advice | None:
    layout = problem.request.layout
    height, width = (side * PIXELS_PER_TOKEN for side in (layout.rows, layout.columns))
    least = 1 if layout.shots == 1 else roomy_frames(layout.shots)

    def split(frames: int) -> ShotLayout:
        return ShotLayout.from_frames(frames, even_cuts(frames, layout.shots), height, width)

    frames = last_fitting(problem, range(least, MOST_FRAMES + 1, FRAMES_PER_LATENT), split)
    return _advice(problem, frames, f"--frames {frames}") if frames is not None else None


def _scaled(problem: Problem, durations: tuple[float, ...]) -> Advice | None:
    """The same durations times as many tenths as fit; None if that is not more, or would leave a shot too short."""
    least = math.ceil(TENTHS * SAFE_SPACING / min(durations))
    most = math.floor(TENTHS * (MOST_FRAMES - SAFE_SPACING * len(durations)) / sum(durations))

    def at_worst(tenths: int) -> ShotLayout:
        return _roomiest(problem.request.layout, [each * tenths / TENTHS for each in durations])

    tenths = last_fitting(problem, range(least, most + 1), at_worst)
    if tenths is None or (tenths <= TENTHS and problem.fits()):
        return None
    frames = round(sum(durations) * tenths / TENTHS)
    typed = f"every shot {'up to' if tenths > TENTHS else 'at most'} {tenths / TENTHS:g} times as long"
    return _advice(problem, frames, typed, tenths / TENTHS)


def _roomiest(layout: ShotLayout, durations: list[float]) -> ShotLayout:
    """A layout that needs no less than any to which durations of about so many frames are rounded."""
    longest_shot = math.ceil(max(durations) / FRAMES_PER_LATENT) + SPARE
    others = layout.shots - 1
    rest = max(math.ceil(sum(durations) / FRAMES_PER_LATENT) + SPARE - longest_shot, others)
    rest = min(rest, others * longest_shot)
    starts = (0, *(longest_shot + rest * number // others for number in range(others)))
    return ShotLayout(starts, longest_shot + rest, layout.rows, layout.columns)


def _advice(problem: Problem, frames: int, typed: str, factor: float | None = None) -> Advice:
    request, layout = problem.request, problem.request.layout
    seconds = frames / request.timing.fps if request.timing is not None else None
    return Advice(frames, seconds, layout.columns * PIXELS_PER_TOKEN, layout.rows * PIXELS_PER_TOKEN, typed, factor)
