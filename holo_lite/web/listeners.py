"""Who listens: every open page, each told the newest of every record and never what was before."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

PING = 15.0  # seconds without anything to tell
RETRY = 700  # milliseconds after which a page asks again
MOST = 64  # streams that are open at once; the oldest is closed for a new one
WHOLE = {"job": "id", "job_gone": "id"}  # records that are told one by one, by this field


def event(name: str, record: Any) -> bytes:
    """A record as an event of a stream."""
    return f"event: {name}\ndata: {json.dumps(record)}\n\n".encode()


class Listener:
    """One open stream: what is not told yet, the newest of each key."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._wake = loop, asyncio.Event()
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[str, Any]] = {}
        self.closed = False

    def tell(self, key: str, name: str, record: Any) -> None:
        """Tell a record, from any thread."""
        with self._lock:
            self._waiting.pop(key, None)  # the newest comes last
            self._waiting[key] = (name, record)
        self._awaken()

    def close(self) -> None:
        """End the stream, from any thread."""
        self.closed = True
        self._awaken()

    async def events(self, snapshot: Callable[[], Any]) -> AsyncIterator[bytes]:
        """What the page is sent, first of all the whole."""
        yield f"retry: {RETRY}\n\n".encode() + event("snapshot", snapshot())
        while not self.closed:
            try:
                await asyncio.wait_for(self._wake.wait(), PING)
            except TimeoutError:
                yield b": ping\n\n"
                continue
            self._wake.clear()
            with self._lock:
                told, self._waiting = self._waiting, {}
            for name, record in told.values():
                yield event(name, record)

    def _awaken(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)


class Listeners:
    """All open streams."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[Listener] = []
        self._closed = False

    def tell(self, name: str, record: Any) -> None:
        """Tell everybody a record, from any thread."""
        key = f"{name} {record[WHOLE[name]]}" if name in WHOLE else name
        with self._lock:
            listeners = list(self._open)
        for each in listeners:
            each.tell(key, name, record)

    def open(self) -> Listener:
        """One more."""
        listener = Listener(asyncio.get_running_loop())
        with self._lock:
            self._open.append(listener)
            too_many = self._open[:-MOST]
            listener.closed = self._closed
        for each in too_many:
            each.close()
        return listener

    def leave(self, listener: Listener) -> None:
        """A page was closed."""
        with self._lock:
            self._open = [each for each in self._open if each is not listener]

    def close(self) -> None:
        """End all streams."""
        with self._lock:
            listeners, self._closed = list(self._open), True
        for each in listeners:
            each.close()
