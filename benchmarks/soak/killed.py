"""Processes that are killed: the command as people run it, ended by SIGKILL, and then gone on with.

This file is also the process. It puts a witness into the console's `show`, which tells every event on a line, may
have itself killed at a call that changes the disk, and then is `holo-lite`.

    python -m benchmarks.soak.killed CALL WHEN generate …        CALL: a number, or -1 for none
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import command as benchmark, environment as paths

MARK = "event:"
NO_CALL = -1
PAUSE = 0.03  # seconds at most between an event and the kill
WHENS = ("before", "midway", "behind")


@dataclass(frozen=True)
class Kill:
    """When a process is killed: at a call that changes the disk, or so many seconds after an event, by number."""

    call: int = NO_CALL
    when: str = "before"
    event: int | None = None
    pause: float = 0.0

    def __str__(self) -> str:
        if self.event is None:
            return f"killed {self.when} call {self.call}"
        return f"killed {self.pause:.3f} s after event {self.event}"


@dataclass(frozen=True)
class Life:
    """What a process told: its events as (name, number, hash of the latents), its exit code, its last line."""

    events: tuple[tuple[str, int, str], ...]
    code: int
    last_line: str

    @property
    def was_killed(self) -> bool:
        """Whether it ended by SIGKILL."""
        return self.code == -signal.SIGKILL


def live(words: Sequence[str], environment: Mapping[str, str], kill: Kill) -> Life:
    """Run the command line in a process of its own, to its end or to the kill."""
    command = [*benchmark("soak.killed"), str(kill.call), kill.when, *words]
    found: list[tuple[str, int, str]] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env={**paths(), **environment}
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith(MARK):
                found.append(tuple(json.loads(line.removeprefix(MARK))))
            if len(found) - 1 == kill.event:
                time.sleep(kill.pause)
                child.kill()
        said = child.stderr.read().splitlines() if child.stderr else []
    return Life(tuple(found), child.returncode, said[-1] if said else "")


def digest(latents: Any) -> str:
    """A hash of a tensor's bytes."""
    return hashlib.sha256(latents.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


# --- within the process ----------------------------------------------------------------------------


def be_holo_lite(call: int, when: Any) -> None:
    """Be `holo-lite`, tell what happens, and die at a call that changes the disk."""
    import cli
    from holo_lite.views import run as console

    shown = console.show

    def show(event: Any, view: Any) -> None:
        tell(event)
        shown(event, view)

    console.show = show
    if call == NO_CALL:
        cli.main()
    from benchmarks.soak.disk import Disk

    tempfile.gettempdir()  # torch asks for it, and Python tries it by writing there once: no write of ours
    with Disk(lambda number, _: number == call, lambda: os.kill(os.getpid(), signal.SIGKILL), when):
        cli.main()


def tell(event: Any) -> None:
    """Print an event: its name, the step or frame it is of, and a step's latents."""
    progress = getattr(event, "progress", None)
    latents = digest(progress.latents) if progress is not None else ""
    number = getattr(event, "done", getattr(event, "saved", 0))
    print(MARK + json.dumps([type(event).__name__, number, latents]), flush=True)


if __name__ == "__main__":
    chosen, moment = sys.argv[1:3]
    del sys.argv[1:3]
    be_holo_lite(int(chosen), moment)
