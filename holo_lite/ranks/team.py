"""The ranks that compute one clip together, as each of them sees the others.

The first rank leads: it plans, reads prompts, decodes and saves, and the others follow it through one task after
another. A task is a clip's steps, and has attempts: where memory runs out on one rank, all try again. Whoever
leaves an attempt says why under the attempt's name, before the connections go. So the others, whose connections
then break, know what it means.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch

from holo_lite.errors import RanksError
from holo_lite.model.parts import Part
from holo_lite.ranks.engine import Store, Transport
from holo_lite.ranks.group import Parted, Place
from holo_lite.ranks.meeting import LEAD, Meeting
from holo_lite.ranks.watch import Watch

Kind = Literal["device", "pinned", "cancelled", "failed"]  # too little of which memory, somebody's wish, an error
END = "end"  # a task: there will be none after it
NAP = 0.005  # seconds between two looks into the store
REASON = 2.0  # seconds in which a rank that has left may still be saying why


class Why(NamedTuple):
    """Why somebody has left: the kind, and a line for a person."""

    kind: Kind
    said: str


class Left(Exception):  # noqa: N818 - what it means is for whoever catches it
    """Another rank has left what is being done, and says why."""

    def __init__(self, name: str, why: Why) -> None:
        super().__init__(f"{name}: {why.said}")
        self.why = why


@dataclass
class Team:
    """One rank's view. names: every rank's, for a person; store: its connection, for all but the watch."""

    store: Store
    rank: int
    names: Sequence[str]
    device: torch.device
    transport: Transport
    watch: Watch
    look: Callable[[], None] = lambda: None  # raises `Parted` where a process that was started here has ended
    loopback: bool = False  # all ranks are on this machine
    _tasks: int = field(default=0, init=False)

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return len(self.names)

    @property
    def leads(self) -> bool:
        """Whether this is the first rank."""
        return self.rank == LEAD

    @property
    def is_whole(self) -> bool:
        """Whether every other rank is there."""
        try:
            self.check()
        except Parted:
            return False
        return True

    # --- tasks

    def give(self, task: dict[str, Any]) -> str:
        """Give the others something to do. Returns the task's name."""
        self._tasks += 1
        self.store.set(f"task/{self._tasks}", json.dumps(task))
        return str(self._tasks)

    def take(self) -> tuple[str, dict[str, Any]]:
        """Wait for the next task: its name, and what it is. Raises `Parted` where the first rank is lost."""
        self._tasks += 1
        key = f"task/{self._tasks}"
        while not self._has(key):
            self.check()
            time.sleep(10 * NAP)
        return str(self._tasks), json.loads(self.store.get(key))

    def end(self, task: str, why: Why) -> None:
        """Say that a task is over: nobody needs to wait for this rank any more."""
        self._say(f"over/{task}/{self.rank}", why)

    def finish(self) -> None:
        """Let the others end; there is nothing more to do."""
        self.watch.stop()
        with suppress(RuntimeError):  # they may have ended before
            self.give({"do": END})

    # --- attempts

    def gather(self, task: str, name: str, word: dict[str, Any]) -> list[dict[str, Any]]:
        """Every rank's word, once all are there. Raises `Left` where one has ended the task, and `Parted`."""
        self.store.set(f"here/{name}/{self.rank}", json.dumps(word))
        keys = [f"here/{name}/{rank}" for rank in range(self.size)]
        while not self._has(*keys):
            self.check()
            self._raise_left(f"over/{task}")
            time.sleep(NAP)
        return [json.loads(self.store.get(key)) for key in keys]

    def meeting(self, name: str, parts: Sequence[Part]) -> Meeting:
        """Where all meet, each of whom has been gathered."""
        place = Place(self.store, self.rank, self.device, self.transport, self.check, self.loopback)
        return Meeting(place, name, parts)

    def leave(self, name: str, why: Why) -> None:
        """Say why this rank leaves an attempt."""
        self._say(f"why/{name}/{self.rank}", why)

    def meaning(self, task: str, name: str, error: Parted) -> Left:
        """Why another has left: what it says, or that it says nothing. Raises `RanksError` where it is lost."""
        end = time.monotonic() + REASON
        while time.monotonic() < end:
            try:
                self.check()
                self._raise_left(f"why/{name}")
                self._raise_left(f"over/{task}")
            except Left as left:
                return left
            except Parted as lost:
                raise RanksError(str(lost)) from None
            time.sleep(NAP)
        raise RanksError(f"the connection to another rank is lost ({error})")

    def check(self) -> None:
        """Raise `Parted` where another rank is not there any more."""
        self.watch.check()
        self.look()

    def _raise_left(self, key: str) -> None:
        for rank, said in self._said(key):
            raise Left(self.names[rank], said)

    def _said(self, key: str) -> Iterator[tuple[int, Why]]:
        for rank in range(self.size):
            if rank != self.rank and self._has(f"{key}/{rank}"):
                yield rank, Why(*json.loads(self.store.get(f"{key}/{rank}")))

    def _say(self, key: str, why: Why) -> None:
        try:
            self.store.set(key, json.dumps(why))
        except RuntimeError:  # the store's rank is gone, and with it whoever could want to know
            return

    def _has(self, *keys: str) -> bool:
        try:
            return bool(self.store.check(list(keys)))
        except RuntimeError as error:
            raise Parted(f"{self.names[LEAD]} cannot be reached any more") from error
