"""Who starts a render process, talks to it and stops it. Nothing but Python's own library is needed here.

    def hear(record): ...            # from a thread of its own; every record, and "gone" as the last

    process = RenderProcess(hear)
    process.start()
    process.make("1", {"version": 1, "runs_from": 1, "storyboard": "/scene.toml", "out": "/scene.mp4"})
    process.cancel("1")
    process.stop()

A crash of the process is a record for whoever started it, never an exception. When the starter is gone, its end of
the pipe is closed, and the process stops after its block: no orphan keeps a card.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..system.starting import importing_nothing_from_here

Record = dict[str, Any]
Hear = Callable[[Record], None]
PATIENCE = 30.0  # seconds in which a process that is asked to stop ends its block
LAST = 600  # characters of its own last words that are told when it dies
MODULE = "holo_lite.worker"


class LineProcess:
    """A module of ours in a process of its own, which reads and writes a record a line.

    `python` is the interpreter that has holo-lite; `log` takes what the process prints.
    """

    def __init__(
        self,
        hear: Hear,
        module: str,
        words: Sequence[str] = (),
        *,
        python: str | Path = sys.executable,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._hear, self._log = hear, log
        self._words = [str(python), "-P", "-m", module, *words]
        self._environment = importing_nothing_from_here({**os.environ, **(environment or {})})
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._writing = threading.Lock()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it. Raises `OSError` where the interpreter cannot be started."""
        assert not self.is_alive, "it runs"
        errors: int | IO[bytes] = self._log.open("ab") if self._log is not None else subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
                **_own_group(),
            )
        finally:
            if not isinstance(errors, int):
                errors.close()
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def stop(self, patience: float = PATIENCE) -> None:
        """Have it end after its block; after that many seconds it is killed."""
        process = self._process
        if process is None:
            return
        with self._writing:
            if process.stdin is not None and not process.stdin.closed:
                _close(process.stdin)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
        self._joined(process)

    def kill(self) -> None:
        """End it at once. The step that it computed is lost, what it saved is not."""
        if self._process is not None:
            self._process.kill()
            self._joined(self._process)

    def _joined(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join(PATIENCE)

    def say(self, record: Record) -> None:
        """Write a line. A process that is gone has said so by itself."""
        process = self._process
        with self._writing:
            if process is None or process.stdin is None or process.stdin.closed:
                return
            try:
                process.stdin.write(json.dumps(record).encode() + b"\n")
                process.stdin.flush()
            except (BrokenPipeError, OSError):
                return

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None, "it was started with a pipe"
        with process.stdout as records:
            for text in records:
                record = _record(text)
                if record is not None:
                    self._hear(record)
        code = process.wait()
        with self._writing:
            if process.stdin is not None:
                _close(process.stdin)
        self._hear({"version": 1, "kind": "gone", "code": code, "said": self._last_words()})

    def _last_words(self) -> str:
        """The end of its log."""
        if self._log is None:
            return ""
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LAST))
                return file.read().decode("utf-8", "replace").strip()
        except OSError:
            return ""


class RenderProcess(LineProcess):
    """One process that renders. idle: seconds after which it lets an unused model go."""

    def __init__(
        self,
        hear: Hear,
        *,
        python: str | Path = sys.executable,
        log: Path | None = None,
        idle: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        words = ("--idle", str(idle)) if idle is not None else ()
        super().__init__(hear, MODULE, words, python=python, log=log, environment=environment)

    def make(self, name: str, order: Mapping[str, Any]) -> None:
        """Ask for a video; its records carry the name as "order", and the last of them is "ended"."""
        self.say({"do": "make", "id": name, "order": order})

    def cancel(self, name: str) -> None:
        """Ask for an order to be cancelled; what is finished of it stays."""
        self.say({"do": "cancel", "id": name})


def _record(text: bytes) -> Record | None:
    """A line as a record; None for what is none, such as one that a kill cut off."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except OSError:  # what was not written yet goes nowhere
        return


def _own_group() -> dict[str, Any]:
    """Ctrl-C in the terminal of whoever started it is for them alone."""
    if os.name == "nt":
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}
