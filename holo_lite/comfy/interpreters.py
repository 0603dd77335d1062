"""Which Python holds holo-lite. Nothing is installed from here: where it is missing, the node says what to type."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..system.starting import importing_nothing_from_here
from .handles import NodeError

VARIABLE = "HOLO_LITE_PYTHON"
CLONE = Path(__file__).resolve().parents[2]
LOOK = "import holo_lite.worker.client; print(holo_lite.__version__)"
PATIENCE = 120.0  # seconds; a disk that sleeps needs some


@dataclass
class Interpreters:
    """Interpreters that were seen to hold holo-lite. One that does not is asked again: it may hold it by now.

    on_page: which one a person has named on ComfyUI's page; nothing: none.
    """

    on_page: Callable[[], str] = str
    clone: Path = CLONE
    _seen: set[str] = field(default_factory=set)

    def choose(self) -> str:
        """The interpreter that was named, or else the first that holds holo-lite. Raises `NodeError`.

        Whoever starts ComfyUI decides before its page does. A graph decides nothing: it may be a stranger's.
        """
        named = os.environ.get(VARIABLE, "").strip() or self.on_page()
        if named:
            if not self.holds(named):
                raise NodeError(f"{named}: this Python has no holo-lite; {self._mend()}")
            return named
        for each in self._usual():
            if self.holds(each):
                return each
        raise NodeError(f"ComfyUI's Python has no holo-lite, and no other is named; {self._mend()}")

    def holds(self, python: str) -> bool:
        """Whether an interpreter starts and finds holo-lite."""
        if python not in self._seen and _finds(python):
            self._seen.add(python)
        return python in self._seen

    def _usual(self) -> Iterator[str]:
        own = _python_of(self.clone / ".venv")
        if own.is_file():
            yield str(own)
        yield sys.executable

    def _mend(self) -> str:
        """The two lines to type; they may be long, so each has a line of its own."""
        folder = self.clone / ".venv"
        python = _python_of(folder)
        lines = f'python3 -m venv "{folder}"\n"{python}" -m pip install "{self.clone}"'
        return (
            f"type these two lines in a terminal, or name another in ComfyUI's settings, under HoloCine:\n{lines}"
        )


def _python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _finds(python: str) -> bool:
    environment = importing_nothing_from_here({**os.environ})
    try:
        done = subprocess.run(
            [python, "-P", "-c", LOOK],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
