"""A model of PyTorch's caching allocator for CUDA (`c10/cuda/CUDACachingAllocator.cpp`), as it is by default.

What is asked for is rounded up to 512 bytes. It comes from the smallest free block that is large enough, of the
pool of its kind (small: 1 MiB at most) and its stream; of equal ones from the first in memory. Where there is none,
the card gives a new segment: 2 MiB for small blocks, 20 MiB for those below 10 MiB, and for larger ones what they
take in multiples of 2 MiB. What a block has too much is cut off and becomes a free block, but not where a large
block has no more than 1 MiB too much. Blocks that are given back join their free neighbours, and never leave their
segment.

The cap bounds the segments. One that does not fit is tried again after all segments that are wholly free have gone
back to the card, which takes that a synchronization, and counts as a retry. What PyTorch says is allocated are the
sizes of blocks in use, with what could not be cut off of them.

Not modelled, because the runtime asks for none of it: expandable segments, a largest size to split, garbage
collection by a threshold, private pools of graphs, and blocks that several streams use.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

MIB = 2**20
SMALLEST = 512  # bytes; sizes are multiples of it
SMALL = MIB  # the most that a small block has
SMALL_SEGMENT, LARGE_SEGMENT = 2 * MIB, 20 * MIB
LARGE = 10 * MIB  # from here on a segment is as large as what is asked for
ROUND = 2 * MIB  # in multiples of this


class FullError(MemoryError):
    """The card has no room for a segment, even after all that was free has gone back."""


@dataclass(eq=False)
class Block:
    """A part of a segment, between its neighbours there."""

    stream: int
    small: bool
    address: int
    size: int
    free: bool = True
    before: Block | None = None
    behind: Block | None = None

    @property
    def is_segment(self) -> bool:
        """Whether it is the whole of its segment."""
        return self.before is None and self.behind is None

    @property
    def order(self) -> tuple[int, int]:
        """Its place among the free blocks of a pool."""
        return self.size, self.address


class CachingAllocator:
    """Blocks for tensors, out of segments that together stay within `cap` bytes.

    `allocated` and `reserved` are PyTorch's figures of these names, each with its highest; `retries` counts how
    often it had to let go of free segments.
    """

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.allocated = self.most_allocated = 0
        self.reserved = self.most_reserved = 0
        self.retries = 0
        self._pools: dict[tuple[int, bool], list[Block]] = {}
        self._next = 0  # where the next segment lies

    def take(self, nbytes: int, stream: int = 0) -> Block:
        """A block of at least so many bytes. Raises `FullError`."""
        size = rounded(nbytes)
        block = self._fitting(size, stream) or self._segment(size, stream)
        if _is_cut(block, size):
            self._cut(block, size)
        block.free = False
        self.allocated += block.size
        self.most_allocated = max(self.most_allocated, self.allocated)
        return block

    def give_back(self, block: Block) -> None:
        """A tensor is gone. Its block joins its free neighbours."""
        assert not block.free, "given back once"
        self.allocated -= block.size
        block.free = True
        for other in (block.before, block.behind):
            if other is not None and other.free:
                self._pool(other).remove(other)
                _join(block, other)
        bisect.insort(self._pool(block), block, key=lambda each: each.order)

    def empty_cache(self) -> None:
        """Give segments that are wholly free back to the card."""
        for pool in self._pools.values():
            self.reserved -= sum(block.size for block in pool if block.is_segment)
            pool[:] = [block for block in pool if not block.is_segment]

    def forget_peaks(self) -> None:
        """Begin to count the highest figures again."""
        self.most_allocated, self.most_reserved = self.allocated, self.reserved

    def _fitting(self, size: int, stream: int) -> Block | None:
        pool = self._pools.setdefault((stream, size <= SMALL), [])
        place = bisect.bisect_left(pool, (size, -1), key=lambda each: each.order)
        return pool.pop(place) if place < len(pool) else None

    def _segment(self, size: int, stream: int) -> Block:
        nbytes = segment_size(size)
        if self.reserved + nbytes > self.cap:
            self.retries += 1
            self.empty_cache()
        if self.reserved + nbytes > self.cap:
            raise FullError(f"{nbytes} bytes more, with {self.reserved} of {self.cap} reserved")
        self.reserved += nbytes
        self.most_reserved = max(self.most_reserved, self.reserved)
        address, self._next = self._next, self._next + nbytes
        return Block(stream, size <= SMALL, address, nbytes)

    def _cut(self, block: Block, size: int) -> None:
        rest = Block(block.stream, block.small, block.address + size, block.size - size)
        rest.before, rest.behind = block, block.behind
        if block.behind is not None:
            block.behind.before = rest
        block.behind, block.size = rest, size
        bisect.insort(self._pool(rest), rest, key=lambda each: each.order)

    def _pool(self, block: Block) -> list[Block]:
        return self._pools.setdefault((block.stream, block.small), [])


def rounded(nbytes: int) -> int:
    """What a block has at least for so many bytes."""
    return max(SMALLEST, _up(nbytes, SMALLEST))


def segment_size(size: int) -> int:
    """What the card is asked for where no free block is large enough."""
    if size <= SMALL:
        return SMALL_SEGMENT
    return LARGE_SEGMENT if size < LARGE else _up(size, ROUND)


def _is_cut(block: Block, size: int) -> bool:
    left = block.size - size
    return left >= SMALLEST if block.small else left > SMALL


def _join(block: Block, other: Block) -> None:
    """Take a free neighbour into a block."""
    if other is block.before:
        block.address, block.before = other.address, other.before
        if other.before is not None:
            other.before.behind = block
    else:
        block.behind = other.behind
        if other.behind is not None:
            other.behind.before = block
    block.size += other.size


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
