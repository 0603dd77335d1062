"""The render process that the nodes share, and what they wait for.

ComfyUI runs one node at a time, so there is one process, for one interpreter. Whoever waits asks ten times a second
and more whether somebody has interrupted: then the order is cancelled and the wait ends at once, while the process
ends its block. What is finished of it stays, and the same order goes on from there.
"""

from __future__ import annotations

import queue
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..worker.client import LineProcess, RenderProcess, importing_nothing_from_here
from .handles import Model, NodeError
from .interpreters import Interpreters

Record = dict[str, Any]
Check = Callable[[], object]  # raises what ends a wait
ASK = 0.05  # seconds between two looks whether somebody interrupts
PLANNER = "holo_lite.web.planner"


@dataclass
class Session:
    """One render process, kept between two queueings."""

    interpreters: Interpreters = field(default_factory=Interpreters)
    _process: RenderProcess | None = None
    _of: tuple[str, int] | None = None
    _heard: queue.Queue[Record] = field(default_factory=queue.Queue)

    def make(self, model: Model, order: Record, log: Path, hear: Callable[[Record], None], check: Check) -> None:
        """Have a video made; every record of it is heard. Raises `NodeError`, and what `check` and `hear` raise."""
        process, name = self._running(model, log), uuid.uuid4().hex
        process.make(name, order)
        over = False
        try:
            while not over:
                check()
                record = _next(self._heard)
                if record is None:
                    continue
                over = self._is_end(record, name, log)
                if record.get("order") == name and not over:
                    hear(record)
        finally:
            if not over:
                process.cancel(name)

    def close(self) -> None:
        """End the process."""
        process, self._process, self._of = self._process, None, None
        if process is not None:
            process.stop()

    @property
    def process(self) -> RenderProcess | None:
        """The one that runs; None: none."""
        return self._process if self._process is not None and self._process.is_alive else None

    def _running(self, model: Model, log: Path) -> RenderProcess:
        wanted = (self.interpreters.choose(model.python), model.idle)
        if self.process is None or self._of != wanted:
            self.close()
            heard: queue.Queue[Record] = queue.Queue()
            self._heard = heard
            log.parent.mkdir(parents=True, exist_ok=True)
            self._process = RenderProcess(heard.put, python=wanted[0], idle=wanted[1], log=log)
            self._process.start()
            self._of = wanted
        assert self._process is not None, "it was started"
        return self._process

    def _is_end(self, record: Record, name: str, log: Path) -> bool:
        """Whether an order is over. Raises `NodeError` where it failed."""
        if record.get("kind") == "gone":
            self._process = None
            words = str(record.get("said") or "").splitlines() or ["it said nothing"]
            raise NodeError(f"the render process ended: {words[-1]}; {log} says more")
        if record.get("kind") != "ended" or record.get("order") != name:
            return False
        if record["state"] == "failed":
            raise NodeError(record["why"])
        if record["state"] == "cancelled":
            raise NodeError("the render was cancelled; queue it again, and it goes on")
        return True


def planned(python: str, order: Record, log: Path, check: Check) -> Record:
    """What a plan says of an order, by a process of its own. Raises `NodeError`, and what `check` raises."""
    heard: queue.Queue[Record] = queue.Queue()
    log.parent.mkdir(parents=True, exist_ok=True)
    process = LineProcess(heard.put, PLANNER, python=python, log=log)
    process.start()
    process.say({"ask": 1, "order": order})
    try:
        while True:
            check()
            record = _next(heard) or {}
            if record.get("kind") == "plan":
                return record
            if record.get("kind") == "gone":
                raise NodeError(f"the plan could not be made; {log} says more")
    finally:
        process.kill()


def spoken(python: str, words: Sequence[str], check: Check) -> tuple[int, str, str]:
    """Run the command `holo-lite`: its exit code, and what it prints. Raises what `check` raises."""
    process = subprocess.Popen(
        [python, "-P", "-m", "holo_lite", *words],
        env=importing_nothing_from_here(_plain()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    try:
        while True:
            check()
            try:
                out, errors = process.communicate(timeout=ASK)
            except subprocess.TimeoutExpired:
                continue
            return process.returncode, out, errors
    finally:
        process.kill()


def _plain() -> dict[str, str]:
    """The environment, for a command whose words are shown on a page."""
    import os

    said: Mapping[str, str] = os.environ
    return {**said, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}


def _next(heard: queue.Queue[Record]) -> Record | None:
    try:
        return heard.get(timeout=ASK)
    except queue.Empty:
        return None
