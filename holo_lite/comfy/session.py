"""The render process that the nodes share, and what they wait for.

ComfyUI runs one node at a time, so there is one process, for one interpreter. Whoever waits asks ten times a second
and more whether somebody has interrupted: then the order is cancelled and the wait ends at once, while the process
ends its block. What is finished of it stays, and the same order goes on from there.
"""

from __future__ import annotations

import queue
import uuid
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..worker.client import RenderProcess
from .handles import Model, NodeError
from .interpreters import Interpreters
from .planner import Planner
from .waiting import Check, Record, next_of


@dataclass
class Session:
    """One render process, kept between two queueings."""

    interpreters: Interpreters = field(default_factory=Interpreters)
    planner: Planner = field(default_factory=Planner)
    _process: RenderProcess | None = None
    _of: tuple[str, int] | None = None
    _heard: queue.Queue[Record] = field(default_factory=queue.Queue)

    def make(
        self, model: Model, orders: Sequence[Record], log: Path, hear: Callable[[Record], None], check: Check
    ) -> None:
        """Have videos made, one after the other; every record of them is heard.

        All are asked for at once, so that the model stays open from one to the next however short its idle time is.
        Raises `NodeError`, and what `check` and `hear` raise.
        """
        process, left = self._running(model, log), {uuid.uuid4().hex: order for order in orders}
        for name, order in left.items():
            process.make(name, order)
        try:
            while left:
                check()
                record = next_of(self._heard)
                if record is None:
                    continue
                if self._is_end(record, left, log):
                    del left[record["order"]]
                elif record.get("order") in left:
                    hear(record)
        finally:
            for name in left:
                process.cancel(name)

    def close(self) -> None:
        """End the process, and the one that plans."""
        process, self._process, self._of = self._process, None, None
        if process is not None:
            process.stop()
        self.planner.close()

    @property
    def process(self) -> RenderProcess | None:
        """The one that runs; None: none."""
        return self._process if self._process is not None and self._process.is_alive else None

    def _running(self, model: Model, log: Path) -> RenderProcess:
        wanted = (self.interpreters.choose(), model.idle)
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

    def _is_end(self, record: Record, names: Container[str], log: Path) -> bool:
        """Whether one of some orders is over. Raises `NodeError` where it failed."""
        if record.get("kind") == "gone":
            self._process = None
            words = str(record.get("said") or "").splitlines() or ["it said nothing"]
            raise NodeError(f"the render process ended: {words[-1]}; {log} says more")
        if record.get("kind") != "ended" or record.get("order") not in names:
            return False
        if record["state"] == "failed":
            raise NodeError(record["why"])
        if record["state"] == "cancelled":
            raise NodeError("the render was cancelled; queue it again, and it goes on")
        return True
