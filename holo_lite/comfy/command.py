"""The command `holo-lite`, for what it says in words."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from ..system.starting import importing_nothing_from_here
from .waiting import ASK, Check


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
    return {**os.environ, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
