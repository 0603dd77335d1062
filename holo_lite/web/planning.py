"""Plans for a draft, made elsewhere: one process is asked the newest question, and started when it is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from holo_lite.worker.client import LineProcess, Record

MODULE = "holo_lite.web.planner"
Tell = Callable[[Record], None]
EMPTY: Record = {
    "state": "unknown",
    "text": None,
    "seconds": None,
    "memory": None,
    "main_memory": None,
    "lines": [],
    "why": None,
    "advice": [],
}


class Planning:
    """Asks for plans, and tells each that comes and is not out of date: whole records, by the draft's revision."""

    def __init__(self, tell: Tell, log: Path | None = None) -> None:
        self._tell, self._log = tell, log
        self._lock = threading.Lock()
        self._process: LineProcess | None = None
        self._asked: tuple[int, Record] | None = None
        self._answered = True

    def ask(self, rev: int, order: Mapping[str, Any], *, emptied: bool = False) -> Record:
        """Ask for the plan of an order, emptied: on this machine when nothing else holds its memory.

        Returns the record that says that it is being made.
        """
        with self._lock:
            self._asked, self._answered = (rev, {"ask": rev, "order": dict(order), "emptied": emptied}), False
            self._say()
        return {**EMPTY, "rev": rev, "state": "working"}

    def forget(self, rev: int, why: str) -> Record:
        """There is nothing to plan. Returns the record that says so."""
        with self._lock:
            self._asked, self._answered = None, True
        return {**EMPTY, "rev": rev, "why": why}

    def close(self) -> None:
        """End the process."""
        with self._lock:
            process, self._process, self._asked = self._process, None, None
        if process is not None:
            process.kill()

    def _say(self) -> None:
        assert self._asked is not None, "a question is asked"
        if self._process is None or not self._process.is_alive:
            self._process = LineProcess(self._hear, MODULE, log=self._log)
            self._process.start()
        _, question = self._asked
        self._process.say(question)

    def _hear(self, record: Record) -> None:
        """Take an answer. A process that went away with a question unanswered has failed at it."""
        with self._lock:
            if self._asked is None or self._answered:
                return
            rev, _ = self._asked
            if record.get("kind") == "plan" and record.get("ask") == rev:
                found = {name: record.get(name, default) for name, default in EMPTY.items()}
            elif record.get("kind") == "gone":
                found = {**EMPTY, "why": "the plan could not be made; the log in the workspace says more"}
            else:
                return
            self._answered = True
        self._tell({**found, "rev": rev})
