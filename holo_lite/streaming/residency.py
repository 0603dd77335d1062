"""Which block of an expert is where, in numbers of blocks and then in blocks.

With less memory, some of the blocks in memory are kept: blocks that stay are chosen among those that stayed,
so that no smaller plan reads again what a larger one had read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Residency:
    """What is kept where. Counts of blocks, of slots on the device, and of buffers on the host."""

    resident: int = 0  # blocks of the expert in use that stay on the device
    resident_other: int = 0  # blocks of the one that comes next
    slots: int = 2
    ring: int = 2
    cached: int = 0  # blocks of each expert that stay in pinned host memory
    pinned: bool = True  # whether the ring is, too


@dataclass(frozen=True)
class BlockPlaces:
    """An expert's blocks by index: on the device in its turn, the turn before; in host memory; streamed."""

    stay: tuple[int, ...]
    early: tuple[int, ...]
    cached: tuple[int, ...]
    streamed: tuple[int, ...]

    @classmethod
    def chosen(cls, total: int, residency: Residency, before: BlockPlaces | None = None) -> BlockPlaces:
        """Choose among `total` blocks, evenly, and among those of `before` where it has enough."""
        every = tuple(range(total))
        stay = thinned(before.stay if before else (), residency.resident, every)
        streamed = tuple(index for index in every if index not in stay)
        kept = tuple(index for index in before.cached if index in streamed) if before else ()
        early = thinned(stay, residency.resident_other, stay)
        return cls(stay, early, thinned(kept, residency.cached, streamed), streamed)


def thinned(some: Sequence[int], count: int, others: Sequence[int]) -> tuple[int, ...]:
    """`count` of `some`, spread evenly, or of `others` if `some` are too few; all of these if they are fewer."""
    pool = some if len(some) >= count else others
    return tuple(pool[place] for place in evenly(min(count, len(pool)), len(pool)))


def evenly(count: int, total: int) -> tuple[int, ...]:
    """Choose `count` of `total` places, ascending, with gaps that differ by at most one.

    Blocks that stay give those that stream time to arrive, so they are spread over the whole depth.
    """
    assert 0 <= count <= total, f"{count} of {total}"
    return tuple((2 * place + 1) * total // (2 * count) for place in range(count))
