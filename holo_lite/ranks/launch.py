"""Starting the other ranks of this machine, by `torch.distributed.elastic`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from holo_lite.ranks.engine import LOOPBACK, Store
from holo_lite.ranks.group import Parted
from holo_lite.ranks.watch import PATIENT, Patience
from holo_lite.ranks.wires import Seat, host_store
from holo_lite.system.quiet import without_remarks
from holo_lite.system.starting import importing_nothing_from_here

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.api import SubprocessContext

MODULE = "holo_lite.following"
ELASTIC = "torch.distributed.elastic.multiprocessing.api"  # remarks that this thread is not the main one, and more
LAST = 400  # characters of a rank's last words


@dataclass(frozen=True)
class Opening:
    """What a rank that was started here is told: its seat, device, and how patient all are."""

    seat: Seat
    device: str
    patience: Patience = PATIENT

    def to_word(self) -> str:
        """As a word of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def from_word(cls, word: str) -> Opening:
        """As `to_word` has written it."""
        found = json.loads(word)
        return cls(Seat(**found["seat"]), found["device"], Patience(**found["patience"]))


@dataclass
class Ranks:
    """The processes of the other ranks, which end with this one."""

    store: Store
    port: int
    devices: Sequence[str]
    patience: Patience = PATIENT
    environment: Mapping[str, str] = field(default_factory=dict)
    _context: SubprocessContext | None = field(default=None, init=False)
    _logs: tempfile.TemporaryDirectory[str] | None = field(default=None, init=False)

    @classmethod
    def started(
        cls, devices: Sequence[str], patience: Patience = PATIENT, environment: Mapping[str, str] | None = None
    ) -> Ranks:
        """Start a rank for every device but the first, which is this process's."""
        store, port = host_store()
        ranks = cls(store, port, devices, patience, environment or {})
        with (
            ThreadPoolExecutor(1) as elsewhere,
            without_remarks(ELASTIC),
        ):  # it leaves the main thread's signals alone
            elsewhere.submit(ranks._start).result()
        return ranks

    def seat(self, rank: int) -> Seat:
        """A rank's seat."""
        size = len(self.devices)
        return Seat(rank, size, LOOPBACK, self.port, rank, size)

    def check(self) -> None:
        """Raise `Parted` where one has ended."""
        for number, process in self._processes.items():
            code = process.poll()
            if code is not None:
                raise Parted(f"{name_of(number + 1, self.devices)} has ended ({_ending(code, self._said(number))})")

    def stop(self, patience: float = 0.0) -> None:
        """End them: those that do not end by themselves in so many seconds are killed."""
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
        with without_remarks(ELASTIC):
            self._close()

    def _start(self) -> None:
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std, start_processes
        from torch.distributed.elastic.multiprocessing.api import SubprocessContext

        self._logs = tempfile.TemporaryDirectory(prefix="holo-lite-ranks-")
        others = range(1, len(self.devices))
        words = {
            rank - 1: ("-P", "-m", MODULE, Opening(self.seat(rank), self.devices[rank], self.patience).to_word())
            for rank in others
        }
        environment = {**importing_nothing_from_here(os.environ), **self.environment}
        context = start_processes(
            "holo-lite",
            sys.executable,
            words,
            {rank - 1: environment for rank in others},
            DefaultLogsSpecs(self._logs.name, redirects=Std.ALL),
        )
        assert isinstance(context, SubprocessContext), "a program was named"
        self._context = context

    def _close(self) -> None:
        if self._context is not None:
            self._context.close(getattr(signal, "SIGKILL", signal.SIGTERM), timeout=5)
        if self._logs is not None:
            self._logs.cleanup()
        self._context, self._logs = None, None

    @property
    def _processes(self) -> Mapping[int, subprocess.Popen[bytes]]:
        if self._context is None:
            return {}
        return {number: handler.proc for number, handler in self._context.subprocess_handlers.items()}

    def _said(self, number: int) -> str:
        """The last line a rank has written."""
        found = Path(self._context.stderrs[number]) if self._context is not None else None
        if found is None or not found.is_file():
            return ""
        lines = found.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][-LAST:] if lines else ""


def _ending(code: int, said: str) -> str:
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}: {said}" if said else how


def name_of(rank: int, devices: Sequence[str]) -> str:
    """A rank for a person."""
    return f"rank {rank} ({devices[rank]})"
