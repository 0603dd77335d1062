"""Waiting for what may never come: a reader in a thread of its own, a deadline for all of it, and somebody's wish.

A read that blocks cannot be asked to stop, and one that gets a byte a minute never times out. So another thread
reads, and the one that waits looks up ten times a second. When it stops waiting the connection is cut, which ends
the reader, too, and tells a local model that nobody listens any more.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from holo_lite.cancel import Cancel
from holo_lite.errors import HoloError, WritingError
from holo_lite.system.units import span_text

T = TypeVar("T")
LOOKS_UP = 0.1  # seconds


@dataclass(frozen=True)
class Patience:
    """How long is waited in all, in seconds from now on, and by which token it may end sooner."""

    seconds: float
    cancel: Cancel = field(default_factory=Cancel)
    begun: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds until the deadline; none are left after it."""
        return max(0.0, self.begun + self.seconds - time.monotonic())

    def check(self, whom: str) -> None:
        """Raise `Cancelled` if somebody has cancelled, `WritingError` after the deadline."""
        self.cancel.check()
        if not self.left:
            raise WritingError(
                f"{whom}: nothing whole came within {span_text(self.seconds)}; give it longer with --timeout, or a "
                "smaller model with --llm"
            )


@dataclass(frozen=True)
class Ended:
    """The reader's last word: what went wrong, or that it fell over something nobody thought of."""

    error: HoloError | None = None
    fell: bool = False


def patiently(
    pieces: Callable[[], Iterable[T]], cut: Callable[[], None], patience: Patience, whom: str
) -> Generator[T, None, None]:
    """Pass on pieces that are read in another thread, as they come; `cut` ends the reading, from any thread.

    Raises `Cancelled` and `WritingError` as `Patience.check`, and any `HoloError` of the reader.
    """
    arrived: queue.SimpleQueue[T | Ended] = queue.SimpleQueue()
    patience.check(whom)
    threading.Thread(target=_read, args=(pieces, arrived), daemon=True, name="endpoint").start()
    try:
        while not isinstance(piece := _next(arrived, patience, whom), Ended):
            yield piece
    finally:
        cut()
    assert not piece.fell, "what the reader fell over is told by its thread"
    if piece.error is not None:
        raise piece.error


def _read(pieces: Callable[[], Iterable[T]], arrived: queue.SimpleQueue[T | Ended]) -> None:
    ended = Ended(fell=True)
    try:
        for piece in pieces():
            arrived.put(piece)
        ended = Ended()
    except HoloError as error:
        ended = Ended(error)
    finally:
        arrived.put(ended)


def _next(arrived: queue.SimpleQueue[T | Ended], patience: Patience, whom: str) -> T | Ended:
    while True:
        patience.check(whom)
        try:
            return arrived.get(timeout=LOOKS_UP)
        except queue.Empty:
            continue
