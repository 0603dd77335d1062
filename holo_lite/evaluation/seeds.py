"""Which storyboards a score is of: those one develops with, or fresh ones that nobody has looked at.

Whoever trains weights or changes the sampler looks at scores on the way, and in the end the scores of those
storyboards are higher than those of any others. So figures that are published come from other seeds, which follow
from the weights and the sampler: when either changes, so do the storyboards.
"""

from __future__ import annotations

import hashlib

from holo_lite.errors import SettingsError

DEVELOPMENT = (0,)
REPORTED = 3  # seeds whose storyboards a published score is pooled from
SAMPLER = 1  # to be raised when the sampling path changes its results, so that reports get other storyboards
LARGEST = 10**6
MOST = 100


def reporting_seeds(fingerprint: str) -> tuple[int, ...]:
    """The seeds of a published score of these weights, ascending; none of them is for development."""
    digest = hashlib.sha256(f"{fingerprint} {SAMPLER}".encode()).digest()
    words = (int.from_bytes(digest[place : place + 4]) for place in range(0, 32, 4))
    fresh = dict.fromkeys(1 + word % LARGEST for word in words)
    return tuple(sorted([*fresh][:REPORTED]))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds such as ``3`` or ``3,5,9``. Raises `SettingsError`."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        found = ()
    if not found or len(found) > MOST or min(found) < 0:
        raise SettingsError(f"--seed '{text}': give a number, or several such as 3,5,9")
    return found
