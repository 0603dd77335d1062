"""What the process is asked: orders one after the other, and to cancel one of them.

A thread reads; orders wait in a queue for the one that renders. When the pipe is closed, whoever asked is gone:
everything is cancelled, and the process ends.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from holo_lite.cancel import Cancel
from holo_lite.errors import HoloError
from holo_lite.reading.trees import parse
from holo_lite.worker.lines import lines
from holo_lite.worker.order import ORDER, Order

Refuse = Callable[[str, str], None]  # an order's name, and why it cannot be made


@dataclass(frozen=True)
class Asked:
    """An order by the name that it was given, and the token that cancels it."""

    name: str
    order: Order
    cancel: Cancel


@dataclass
class Inbox:
    """Orders as they come. `refuse` is called, from the thread that reads, for what is none."""

    refuse: Refuse
    _waiting: queue.Queue[Asked | None] = field(default_factory=queue.Queue)
    _tokens: dict[str, Cancel] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def listen(self, descriptor: int) -> None:
        """Read from a pipe until it is closed, in a thread of its own."""
        threading.Thread(target=self._read, args=(descriptor,), daemon=True).start()

    def next(self, seconds: float | None = None) -> Asked | None:
        """The next order; None: there will be none. Raises `queue.Empty` where none has come in so many seconds."""
        return self._waiting.get(timeout=seconds)

    def done(self, asked: Asked) -> None:
        """An order needs its token no more."""
        with self._lock:
            self._tokens.pop(asked.name, None)

    def _read(self, descriptor: int) -> None:
        try:
            for each in lines(descriptor):
                self._take(each)
        except (ValueError, OSError):  # a line without end, or a pipe that is gone: nobody can be asked again
            pass
        finally:
            with self._lock:
                for token in self._tokens.values():
                    token.cancel()
            self._waiting.put(None)

    def _take(self, text: bytes) -> None:
        """Take one line. What is no record, or of another kind, is passed over: a later version may say more."""
        try:
            found = parse(text)
        except HoloError:
            return
        if not isinstance(found, dict) or not isinstance(found.get("id"), str):
            return
        if found.get("do") == "make":
            self._order(found["id"], found.get("order"))
        elif found.get("do") == "cancel":
            with self._lock:
                token = self._tokens.get(found["id"])
            if token is not None:
                token.cancel()

    def _order(self, name: str, found: Any) -> None:
        try:
            order = ORDER.of_table(found, ("order",))
        except HoloError as error:
            self.refuse(name, str(error))
            return
        with self._lock:
            token = self._tokens[name] = Cancel()
        self._waiting.put(Asked(name, order, token))
