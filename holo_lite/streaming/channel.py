"""A queue between threads that can be closed from either end."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class ClosedError(Exception):
    """The other end is closed: nothing more will be put in, or taken out. Never reaches a person."""


class Channel(Generic[T]):
    """First in, first out, without a bound of its own: what is in it is what exists."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Put an item in. Raises `ClosedError` after `close`."""
        with self._changed:
            if self._closed:
                raise ClosedError
            self._items.append(item)
            self._changed.notify()

    def get(self) -> T:
        """Take the oldest item, waiting for one. Raises `ClosedError` after `close`, whatever is left."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            if self._closed:
                raise ClosedError
            return self._items.popleft()

    def clear(self) -> None:
        """Let go of what is left in it."""
        with self._changed:
            self._items.clear()

    def close(self) -> None:
        """End all waiting, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
