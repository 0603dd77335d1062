"""Several films in one queueing, which differ in their seeds alone."""

from __future__ import annotations

LARGEST_SEED = 2**32 - 1  # noise differs below
MOST_SEEDS = 64


def seeds_from(seed: int, count: int, own: int = 0) -> list[int | None]:
    """So many seeds from one on. Where it is below 0, the first is not said: the renderer then takes `own`."""
    first = seed if seed >= 0 else own
    said: list[int | None] = [(first + index) % (LARGEST_SEED + 1) for index in range(count)]
    return said if seed >= 0 else [None, *said[1:]]
