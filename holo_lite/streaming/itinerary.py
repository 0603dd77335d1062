"""The blocks of a run in the order in which they will be wanted, which may turn out shorter than announced.

An expert's first forward wants all of its blocks that are not on the device yet, every later one those that do
not stay. So a forward that is skipped changes nothing of what comes next: only the expert's last forward is
dropped. The reader is ahead by then, and stops; what is read already is not copied. The few blocks that are on the
device or on their way there are *surplus*: they come behind all that the expert is asked for, and before the next
expert's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle

from holo_lite.config import Expert
from holo_lite.streaming.expert_images import BlockId
from holo_lite.streaming.homes import Ahead


class Itinerary:
    """Followed by one thread that reads, asked by one that copies, and shortened by the one that computes.

    `first` are the blocks that the first forward of each expert wants, in the experts' order, `later` those of
    every later one; `forwards` how many there will be, at most. `ahead` are blocks of the next expert that come as
    soon as the first forward has all of its own.
    """

    def __init__(
        self,
        first: Mapping[Expert, Sequence[int]],
        later: Mapping[Expert, Sequence[int]],
        forwards: Mapping[Expert, int],
        ahead: Sequence[BlockId] = (),
    ) -> None:
        self._first, self._later, self._ahead = first, later, ahead
        self._forwards = {expert: forwards[expert] for expert in first}
        self._read, self._copied = dict.fromkeys(first, 0), dict.fromkeys(first, 0)
        self._changing = threading.Lock()

    def __iter__(self) -> Iterator[BlockId | Ahead[BlockId]]:
        ahead = self._ahead
        for expert, indices in self._first.items():
            yield from self._visits(expert, indices)
            yield from map(Ahead, ahead)
            yield from self._visits(expert, cycle(self._later[expert]))
            ahead = ()

    def admits(self, visit: BlockId) -> bool:
        """Whether a block that was read is wanted still; it is then copied."""
        return self._one_more(self._copied, visit[0])

    def cut(self, expert: Expert, forwards: int) -> None:
        """There will be `count` forwards fewer of an expert."""
        with self._changing:
            self._forwards[expert] -= forwards
            assert self._forwards[expert] >= 0, f"{expert}: more forwards were skipped than announced"

    def surplus(self, expert: Expert) -> int:
        """How many blocks of an expert are copied that it will not be asked for."""
        with self._changing:
            return max(0, self._copied[expert] - self._wanted(expert))

    def _visits(self, expert: Expert, indices: Iterable[int]) -> Iterator[BlockId]:
        for index in indices:
            if not self._one_more(self._read, expert):
                return
            yield expert, index

    def _wanted(self, expert: Expert) -> int:
        """How many blocks an expert will be asked for in all."""
        forwards = self._forwards[expert]
        return len(self._first[expert]) + (forwards - 1) * len(self._later[expert]) if forwards else 0

    def _one_more(self, count: dict[Expert, int], expert: Expert) -> bool:
        with self._changing:
            is_wanted = count[expert] < self._wanted(expert)
            count[expert] += is_wanted
            return is_wanted
