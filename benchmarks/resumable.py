"""Parts of a benchmark, one after the other, each kept as soon as it is done.

What is finished stands in a result file and is not run again, so whatever cuts a benchmark off costs one part: the
same command goes on. On a card every part has a process of its own, which begins with clean memory and is ended
when it takes too long.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

LIMIT = 9 * 60  # seconds of a part

Part = Callable[[], Mapping[str, Any]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Clock:
    """Tells what is going on, with the minutes since the start."""

    start: float

    def say(self, text: str) -> None:
        """Print a line."""
        seconds = int(time.perf_counter() - self.start)
        print(f"[{seconds // 60:3}:{seconds % 60:02}] {text}", flush=True)


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
    """Runs what is not finished. `apart` is the command that runs one part: None runs them in this process."""

    result: Result
    parts: Mapping[str, Part]
    say: Say
    apart: Sequence[str] | None = None

    @property
    def missing(self) -> list[str]:
        """Parts that have not been run to their end."""
        done = self.result.read()["parts"]
        return [name for name in self.parts if name not in done]

    def run_all(self) -> None:
        """Run everything that is missing."""
        missing = self.missing
        for name in self.parts:
            if name not in missing:
                self.say(f"{name}: done before")
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
        try:
            code = subprocess.run(command, timeout=LIMIT, check=False).returncode
        except subprocess.TimeoutExpired:
            self.result.keep(name, {"failed": f"took more than {LIMIT} s"})
            return
        if code:
            self.say(f"{name}: ended with code {code}; the next call tries it again")
