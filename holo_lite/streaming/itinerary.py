"""The blocks of a run in the order in which they will be wanted, which may turn out shorter than announced.

Every forward of an expert wants the same blocks, so one that is skipped changes nothing of what comes next: only
the expert's last forward is dropped. The reader is ahead by then, and stops; what is read already is not
copied. The few blocks that are on the device or on their way there are *surplus*: they come behind all that the
expert is asked for, and before the next expert's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

from holo_lite.config import Expert
from holo_lite.streaming.expert_images import BlockId


class Itinerary:
    """Followed by one thread that reads, asked by one that copies, and shortened by the one that computes.

    `blocks` are those that a forward of each expert wants, in the experts' order; `forwards` how many there will
    be, at most.
    """

    def __init__(self, blocks: Mapping[Expert, Sequence[int]], forwards: Mapping[Expert, int]) -> None:
        self._blocks = blocks
        self._wanted = {expert: forwards[expert] * len(indices) for expert, indices in blocks.items()}
        self._read, self._copied = dict.fromkeys(blocks, 0), dict.fromkeys(blocks, 0)
        self._changing = threading.Lock()

    def __iter__(self) -> Iterator[BlockId]:
        for expert, indices in self._blocks.items():
            for index in cycle(indices):
                if not self._one_more(self._read, expert):
                    break
                yield expert, index

    def admits(self, visit: BlockId) -> bool:
        """Whether a block that was read is wanted still; it is then copied."""
        return self._one_more(self._copied, visit[0])

    def cut(self, expert: Expert, forwards: int) -> None:
        """There will be `count` forwards fewer of an expert."""
        with self._changing:
            self._wanted[expert] -= forwards * len(self._blocks[expert])
            assert self._wanted[expert] >= 0, f"{expert}: more forwards were skipped than announced"

    def surplus(self, expert: Expert) -> int:
        """How many blocks of an expert are copied that it will not be asked for."""
        with self._changing:
            return max(0, self._copied[expert] - self._wanted[expert])

    def _one_more(self, count: dict[Expert, int], expert: Expert) -> bool:
        with self._changing:
            is_wanted = count[expert] < self._wanted[expert]
            count[expert] += is_wanted
            return is_wanted
