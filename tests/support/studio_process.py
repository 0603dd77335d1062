"""`holo-lite studio` in a process of its own, and a browser to look at its page: for tests and for screenshots."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
PLAYWRIGHT = "no Playwright here: .venv/bin/pip install playwright"
CHROMIUM = "no Chromium here: apt-get install chromium"
ENDS_WITHIN = 60  # seconds; a guard against hanging


class StudioProcess:
    """A server on one port, which can be killed and started again."""

    def __init__(self, folder: Path, words: Sequence[str] = ()) -> None:
        self._folder, self._words = folder, words
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            self._port = door.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None
        self.link = ""

    def start(self) -> None:
        """Start it, and wait until the page can be opened."""
        command = [sys.executable, "-m", "holo_lite", "studio", str(self._folder), "--no-browser"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        with open(self._folder.with_suffix(".log"), "a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self._port), *self._words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        assert self._process.stdout is not None, "it is a pipe"
        self.link = next(word for word in self._process.stdout.readline().split() if word.startswith("http"))

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(ENDS_WITHIN)

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(ENDS_WITHIN)


@contextmanager
def running_studio(folder: Path, *words: str) -> Iterator[StudioProcess]:
    """A server of a folder, with more words for its command."""
    studio = StudioProcess(folder, words)
    studio.start()
    try:
        yield studio
    finally:
        studio.stop()


def chromium() -> str | None:
    """The program of a browser that Playwright can drive."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)
