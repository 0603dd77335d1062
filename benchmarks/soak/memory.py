"""Memory that runs out at a chosen allocation, and what a process holds after each of its runs."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from holo_lite.events import Event, PhaseStarted

ENOUGH = 50  # runs behind the warm-up, before the slope of their memory says anything
MOST = 2**20  # bytes a run: one that kept its frames or its latents would grow by more


class Allocations(TorchDispatchMode):  # type: ignore[misc]
    """Counts the tensors that are made, by phase of a run, and says that memory ran out at the chosen ones.

    `gaps` are numbers of tensors made in `phase`: to the first failure, from it to the second, and so on. `hear` is
    told the run's events.
    """

    def __init__(self, phase: str = "", gaps: Sequence[int] = ()) -> None:
        super().__init__()
        self.made: Counter[str] = Counter()
        self.failed = 0
        self._phase, self._left, self._now = phase, list(gaps), "begin"

    def hear(self, event: Event) -> None:
        """Learn which phase it is."""
        if isinstance(event, PhaseStarted):
            self._now = event.phase

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not result.is_meta and not any(result is arg for arg in args):
            self._count()
        return result

    def _count(self) -> None:
        self.made[self._now] += 1
        if self._now == self._phase and self._left:
            self._left[0] -= 1
            if not self._left[0]:
                self._left.pop(0)
                self.failed += 1
                raise torch.OutOfMemoryError("CUDA out of memory: Tried to allocate 1.00 GiB")


@dataclass(frozen=True)
class Held:
    """What a process holds: bytes of memory, open files, threads of the system's and of Python's."""

    rss: int
    descriptors: int
    threads: int
    python_threads: int

    @classmethod
    def now(cls) -> Held:
        """Measure, once nothing is left that waits to be collected, or that the allocator only keeps for later."""
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU C library
        if trim is not None:
            trim(0)
        process = psutil.Process()
        return cls(process.memory_info().rss, process.num_fds(), process.num_threads(), threading.active_count())


@dataclass
class Growth:
    """What is held after each run. Figures are of the runs after the first `warm`, which fill caches."""

    warm: int
    held: list[Held] = field(default_factory=list)

    def note(self) -> None:
        """A run is over."""
        self.held.append(Held.now())

    def figures(self) -> dict[str, Any]:
        """First and last of everything, in bytes and numbers, and the bytes that a run adds, by least squares."""
        first, last = self.held[min(self.warm, len(self.held) - 1)], self.held[-1]
        after = [held.rss for held in self.held[self.warm :]]
        return {
            "warm_up_runs": self.warm,
            "rss": {"begin": self.held[0].rss, "first": first.rss, "last": last.rss, "bytes_a_run": slope(after)},
            "descriptors": {"first": first.descriptors, "last": last.descriptors},
            "threads": {"first": first.threads, "last": last.threads},
            "python_threads": {"first": first.python_threads, "last": last.python_threads},
        }

    def leaks(self) -> list[str]:
        """What has grown that must not."""
        found = self.figures()
        leaks = [
            f"{name}: {found[name]['first']} after the warm-up, {found[name]['last']} in the end"
            for name in ("descriptors", "python_threads")
            if found[name]["last"] > found[name]["first"]
        ]
        a_run = found["rss"]["bytes_a_run"]
        if len(self.held) - self.warm >= ENOUGH and a_run > MOST:
            leaks.append(f"memory: {a_run / 2**20:.1f} MiB a run")
        return leaks


def slope(values: Sequence[float]) -> float:
    """By how much a series grows from one to the next, by least squares; 0 for less than two."""
    middle, mean = (len(values) - 1) / 2, sum(values) / max(1, len(values))
    spread = sum((index - middle) ** 2 for index in range(len(values)))
    return sum((index - middle) * (value - mean) for index, value in enumerate(values)) / spread if spread else 0.0
