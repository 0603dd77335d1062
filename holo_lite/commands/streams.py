"""Standard output and error as they must be: no character raises, and no message ends a run.

A pipe on Windows has the encoding of the system, which knows few characters; there UTF-8 is written, unless a
person sets another by ``PYTHONIOENCODING``. What an encoding does not know is written as an escape.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

ENCODING_SAID = "PYTHONIOENCODING"


class PatientStream:
    """A stream that goes on when it cannot be written: its reader has gone, or the disk with the log is full."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what can be."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def speaking() -> Iterator[None]:
    """Make both streams so, as long as this is entered."""
    _fill_closed()
    for stream in (sys.stdout, sys.stderr):
        _take_all_characters(stream)
    before = sys.stderr
    sys.stderr = PatientStream(before)
    try:
        yield
    finally:
        sys.stderr = before
        for stream in (sys.stdout, before):
            _settle(stream)


def _fill_closed() -> None:
    """Give closed streams a place: the next file that is opened would get their number, and their messages."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process


def _take_all_characters(stream: Any) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is None:
        return
    if stream.isatty() or os.environ.get(ENCODING_SAID):
        reconfigure(errors="backslashreplace")
    else:
        reconfigure(encoding="utf-8", errors="backslashreplace")


def _settle(stream: Any) -> None:
    """Forget what could not be written: the interpreter would try again at its end, and change the exit code."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
