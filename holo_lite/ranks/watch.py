"""Whether the other ranks are still there: each says so every few seconds, and whoever is silent for long is lost.

A process that has ended is noticed at once, by its connections. One that hangs, or is on the other side of a broken
network, keeps them: only its silence tells.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from holo_lite.ranks.engine import Store
from holo_lite.ranks.group import Parted


@dataclass(frozen=True)
class Patience:
    """Seconds between two signs of life, and after which a silent rank is given up."""

    sign: float = 2.0
    silent: float = 60.0


PATIENT = Patience()


@dataclass
class Watch:
    """Says that this rank is there, and looks after the others, in a thread of its own. Start it once.

    `store` is this thread's own connection: a call on one that is shared would wait for the other's.
    """

    store: Store
    rank: int
    names: Sequence[str]
    patience: Patience = PATIENT
    on_loss: Callable[[], None] = lambda: None
    _lost: str = field(default="", init=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False)

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="ranks", daemon=True).start()

    def stop(self) -> None:
        """Say nothing more."""
        self._ended.set()

    def check(self) -> None:
        """Raise `Parted` where somebody is lost."""
        if self._lost:
            raise Parted(self._lost)

    def _run(self) -> None:
        heard: dict[int, tuple[bytes, float]] = {}
        number = 0
        while not self._ended.wait(self.patience.sign):
            number += 1
            try:
                self.store.set(_key(self.rank), str(number))
                self._lost = self._silent(heard)
            except RuntimeError:  # the store is the first rank's
                self._lost = f"{self.names[0]} cannot be reached any more"
            if self._lost and not self._ended.is_set():
                self.on_loss()
                return

    def _silent(self, heard: dict[int, tuple[bytes, float]]) -> str:
        """Who has been silent for too long, in words; empty: nobody."""
        now = time.monotonic()
        for rank, name in enumerate(self.names):
            if rank == self.rank:
                continue
            said = self.store.get(_key(rank)) if self.store.check([_key(rank)]) else b""
            before, since = heard.get(rank, (None, now))
            heard[rank] = (said, now if said != before else since)
            if now - heard[rank][1] > self.patience.silent:
                return f"{name} has not answered for {self.patience.silent:g} s"
        return ""


def _key(rank: int) -> str:
    return f"alive/{rank}"
