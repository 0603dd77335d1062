"""Cancelling work from another thread: one token, asked between blocks, frames, files' pieces and tensors.

    cancel = Cancel()
    threading.Timer(60, cancel.cancel).start()
    finish(pipeline.generate(board, "video.mp4", run="video.mp4.run", cancel=cancel))  # raises Cancelled

What was finished before is kept: a cancelled run goes on from its last step, a fetch from its last byte.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")


class Cancelled(Exception):  # noqa: N818 - somebody's wish, and no error
    """The work was cancelled by its token. Not a `HoloError`: nothing is wrong, and there is nothing to fix."""

    def __init__(self, message: str = "cancelled") -> None:
        super().__init__(message)


class Cancel:
    """A token by which any thread, or a signal's handler, cancels the work that was given it; for good.

    The condition's lock is re-entrant, and has to be: a signal's handler runs within whatever the main thread does.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_cancelled = False
        self._calls: list[Callable[[], None]] = []

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody has cancelled."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Have the work end. Returns at once; may be called again, which changes nothing."""
        with self._changed:
            calls, self._is_cancelled = ([] if self._is_cancelled else [*self._calls]), True
            self._changed.notify_all()
        for call in calls:
            call()

    def check(self) -> None:
        """Raise `Cancelled` if somebody has cancelled."""
        if self._is_cancelled:
            raise Cancelled

    def wait(self, seconds: float) -> None:
        """Sleep for a time in seconds, or until somebody cancels. Raises `Cancelled` then."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_cancelled, seconds)
        self.check()

    def between(self, events: Generator[T, None, None]) -> Generator[T, None, None]:
        """Pass events on, and raise `Cancelled` instead of the next; closing this closes them."""
        with closing(events):
            self.check()
            for event in events:
                yield event
                self.check()

    @contextmanager
    def calling(self, call: Callable[[], None]) -> Iterator[None]:
        """Have something called by whoever cancels, for as long as the context lasts; at once if somebody has.

        It must return at once. Its thread is the one that cancels, and it may still run as the context ends.
        """
        self.subscribe(call)
        try:
            yield
        finally:
            self.unsubscribe(call)

    def subscribe(self, call: Callable[[], None]) -> None:
        """As `calling`, until `unsubscribe`."""
        with self._changed:
            cancelled = self._is_cancelled
            self._calls.append(call)
        if cancelled:
            call()

    def unsubscribe(self, call: Callable[[], None]) -> None:
        """Have it called no more."""
        with self._changed:
            self._calls = [each for each in self._calls if each != call]


class FramesLeftBehind:
    """A context that takes the traceback off a `Cancelled` that passes through it.

    A traceback keeps the frames it went through alive, and these keep a block's activations on the device, for as
    long as somebody looks at the exception.
    """

    def __enter__(self) -> None:
        """Enter."""

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if isinstance(error, Cancelled):
            error.__traceback__ = None
