"""Drafts: the same storyboard with a quarter of the steps, to look at before the hour that the whole takes.

A draft to check cuts and framing is also half as high and half as wide, but no side below 240 pixels: far from the
size that it was trained on, a model frames differently. A draft to choose a seed by keeps its size: noise has the
shape of the latents, so at another size the same seed is other noise and shows another clip. At the same size it is
the same way in larger steps, and leads to nearly the same place.
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

from holo_lite.errors import SettingsError
from holo_lite.settings import Options, RunSettings
from holo_lite.story.shots import PIXELS_PER_TOKEN

FEWEST_STEPS = 4
PART = 4  # one step for this many of the full run
SMALLEST_SIDE = 240  # pixels; a smaller side is not halved
MOST_SEEDS = 64


def draft_options(options: Options, full: RunSettings, *, small: bool) -> Options:
    """The options of a draft of a run, in few steps; `small` halves height and width if they are large enough."""
    height, width = smaller(full.height, full.width) if small else (full.height, full.width)
    return dataclasses.replace(options, height=height, width=width, steps=few(full.steps))


def few(steps: int) -> int:
    """A quarter of the steps, at least four, and no more than there are."""
    return min(steps, max(FEWEST_STEPS, round(steps / PART)))


def smaller(height: int, width: int) -> tuple[int, int]:
    """Half of both sides, or as much as leaves the shorter one its least, in pixels that the model can make."""
    shorter = min(height, width)
    part = min(Fraction(1), max(Fraction(1, 2), Fraction(SMALLEST_SIDE, shorter)))
    rows, columns = (math.floor(part * side / PIXELS_PER_TOKEN) for side in (height, width))
    return rows * PIXELS_PER_TOKEN, columns * PIXELS_PER_TOKEN


def explanation(draft: RunSettings, full: RunSettings) -> str:
    """What a draft is, on one line for a person."""
    shorter = f"{draft.steps} of {full.steps} steps"
    if (draft.height, draft.width) == (full.height, full.width):
        return f"draft: {shorter}; length, cuts, size and noise are the full run's"
    return (
        f"draft: {draft.width}×{draft.height} instead of {full.width}×{full.height}, {shorter}; length and cuts "
        "are the full run's, but not the picture: at another size the same seed gives other noise"
    )


def parse_seeds(text: str, first: int) -> tuple[int, ...]:
    """Read how many seeds, counted up from `first`, or which, such as ``1,5,9``. Raises `SettingsError`."""
    try:
        numbers = tuple(int(part) for part in text.removesuffix(",").split(","))
    except ValueError:
        numbers = ()
    if "," not in text and numbers:
        numbers = tuple(range(first, first + min(numbers[0], MOST_SEEDS + 1)))
    if not 1 <= len(numbers) <= MOST_SEEDS:
        raise SettingsError(
            f"--seeds '{text}': give a count from 1 to {MOST_SEEDS}, or a list such as 1,5,9 (a single one: 5,)"
        )
    return tuple(dict.fromkeys(numbers))
