"""Parts of a benchmark, one after the other, each kept as soon as it is done.

What is finished stands in a result file and is not run again, so whatever cuts a benchmark off costs one part: the
same command goes on. On a card every part has a process of its own, which begins with clean memory and is ended
when it takes too long. A part that crashes is tried once more by the next call; then the crash is its result.

A benchmark may be given so many minutes. It begins nothing after them, and a part that is still at work then is
ended and left for the next call.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks import environment

LIMIT = 9 * 60  # seconds of a part
LEAST = 20  # seconds in which no part is worth beginning
LEAST_APART = 90  # on a card, where a part brings a model up first
PR_SET_PDEATHSIG = 1
ENDLESS = float("inf")

T = TypeVar("T")
Part = Callable[[], Mapping[str, Any]]
Say = Callable[[str], None]


def fingerprint(*folders: Path) -> str:
    """A hash of the Python code in folders."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def ended_within(command: Sequence[str], seconds: float, **options: Any) -> int | None:
    """Run a command; its code, or None if it had to be ended. Nothing that it started is left behind."""
    with subprocess.Popen(command, start_new_session=True, env=environment(), **options) as child:
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end_all(child)


def end_with_parent() -> None:
    """Have the system end this process with the one that started it, where it can.

    A part has a session of its own, so that whatever ends a benchmark would leave it at work on the card.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_all(child: subprocess.Popen[Any]) -> None:
    """End a process and those that it started: on Windows, which has no groups of them, itself."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()


def by_worth(parts: Mapping[str, T], order: Sequence[str]) -> dict[str, T]:
    """The parts in the order of the first pattern that each name fits. The last pattern must fit all."""

    def place(name: str) -> int:
        return next(place for place, pattern in enumerate(order) if fnmatchcase(name, pattern))

    return {name: parts[name] for name in sorted(parts, key=place)}


def chosen(parts: Mapping[str, T], patterns: Sequence[str]) -> dict[str, T]:
    """The parts whose names fit one of the patterns; all without patterns."""
    fits = patterns or ("*",)
    return {name: part for name, part in parts.items() if any(fnmatchcase(name, each) for each in fits)}


@dataclass(frozen=True)
class Clock:
    """Tells what is going on, with the minutes since the start."""

    start: float
    minutes: float = ENDLESS

    def say(self, text: str) -> None:
        """Print a line."""
        seconds = int(time.perf_counter() - self.start)
        print(f"[{seconds // 60:3}:{seconds % 60:02}] {text}", flush=True)

    def left(self) -> float:
        """Seconds that are left of the minutes that were given."""
        return 60 * self.minutes - (time.perf_counter() - self.start)


@dataclass(frozen=True)
class Result:
    """A result file: the facts it was measured under, and in `parts` what each part found.

    A file whose facts of the names in `alike` differ from these is another run's.
    """

    path: Path
    facts: Mapping[str, Any]
    alike: tuple[str, ...] = ("small",)

    def read(self) -> dict[str, Any]:
        """What is finished. Raises `click.UsageError` for another run's file."""
        if not self.path.is_file():
            return {**json.loads(json.dumps(self.facts)), "parts": {}}
        found: dict[str, Any] = json.loads(self.path.read_text())
        if (key := self.unlike(found)) is not None:
            raise click.UsageError(
                f"{self.path}: was measured with {key} {found.get(key)}, this run has {self.facts[key]}; "
                "give another --result, or remove the file"
            )
        return found

    def unlike(self, record: Mapping[str, Any]) -> str | None:
        """The first fact in which a record is another run's; None if it is this one's."""
        return next((key for key in self.alike if record.get(key) != self.facts[key]), None)

    def crashed_before(self, name: str) -> bool:
        """Whether a part has crashed before; from now on it has."""
        record = self.read()
        before = record.setdefault("crashed", [])
        write_record(self.path, {**record, "crashed": [*before, name]})
        return name in before

    def keep(self, name: str, found: Mapping[str, Any]) -> None:
        """Write a finished part down, whole or not at all."""
        record = self.read()
        record["parts"][name] = found
        write_record(self.path, record)


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a result file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".partial")
    draft.write_text(json.dumps(record, indent=1) + "\n")
    draft.replace(path)


@dataclass(frozen=True)
class Runner:
    """Runs what is not finished. `apart` is the command that runs one part: None runs them in this process.

    `left` gives the seconds that are left for all of it.
    """

    result: Result
    parts: Mapping[str, Part]
    say: Say
    apart: Sequence[str] | None = None
    left: Callable[[], float] = lambda: ENDLESS

    @property
    def missing(self) -> list[str]:
        """Parts that have not been run to their end."""
        done = self.result.read()["parts"]
        return [name for name in self.parts if name not in done]

    def run_all(self) -> None:
        """Run everything that is missing, as long as there is time."""
        missing = self.missing
        for name in self.parts:
            if name not in missing:
                self.say(f"{name}: done before")
            elif self.left() < (LEAST if self.apart is None else LEAST_APART):
                self.say(f"the time is over before {name}; the same command goes on")
                return
            elif self.apart is None:
                self.run(name)
            else:
                self._run_apart(name, [*self.apart, "--part", name])

    def run(self, name: str) -> None:
        """Run a part here and now, and keep what it found. Raises `click.UsageError` for an unknown name."""
        if name not in self.parts:
            raise click.UsageError(f"part '{name}': there are {', '.join(self.parts)}")
        self.say(f"{name}: begins")
        start = time.perf_counter()
        found = self.parts[name]()
        seconds = time.perf_counter() - start
        self.result.keep(name, {**found, "part_seconds": seconds})
        self.say(f"{name}: done in {seconds:.1f} s")

    def _run_apart(self, name: str, command: Sequence[str]) -> None:
        limit = min(LIMIT, self.left())
        code = ended_within(command, limit)
        if code is None:
            if limit == LIMIT:
                self.result.keep(name, {"failed": f"took more than {LIMIT} s"})
            return
        if code and self.result.crashed_before(name):
            self.result.keep(name, {"failed": f"ended with code {code}, twice"})
        elif code:
            self.say(f"{name}: ended with code {code}; the next call tries it again")
