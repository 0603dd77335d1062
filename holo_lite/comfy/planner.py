"""The process that plans. It takes seconds to start, so it is kept; a minute after the last question it ends.

It counts with a machine that nothing else uses: ComfyUI's models and ours leave the card before a render, and while
a graph is queued, another one may render.
"""

from __future__ import annotations

import queue
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..worker.client import LineProcess
from .handles import NodeError
from .waiting import ASK, Check, Record, next_of

MODULE = "holo_lite.web.planner"


@dataclass
class Planner:
    """Asks for plans, one at a time: of graphs that are queued, and of one that runs."""

    _asking: threading.Lock = field(default_factory=threading.Lock)
    _process: LineProcess | None = None
    _of: str = ""
    _heard: queue.Queue[Record] = field(default_factory=queue.Queue)

    def plan(self, python: str, order: Record, log: Path, check: Check) -> Record:
        """What a plan says of an order. Raises `NodeError`, and what `check` raises."""
        with self._turn(check):
            return self._answer(python, order, log, check)

    @contextmanager
    def _turn(self, check: Check) -> Iterator[None]:
        while not self._asking.acquire(timeout=ASK):
            check()
        try:
            yield
        finally:
            self._asking.release()

    def _answer(self, python: str, order: Record, log: Path, check: Check) -> Record:
        process, name = self._running(python, log), uuid.uuid4().hex
        process.say({"ask": name, "order": order, "emptied": True})
        while True:
            check()
            record = next_of(self._heard) or {}
            if record.get("kind") == "plan" and record.get("ask") == name:
                return record
            if record.get("kind") == "gone":
                self._process = None
                raise NodeError(f"the plan could not be made; {log} says more")

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def _running(self, python: str, log: Path) -> LineProcess:
        if self._process is None or not self._process.is_alive or self._of != python:
            self.close()
            heard: queue.Queue[Record] = queue.Queue()
            log.parent.mkdir(parents=True, exist_ok=True)
            self._process = LineProcess(heard.put, MODULE, python=python, log=log)
            self._process.start()
            self._of, self._heard = python, heard
        return self._process
