"""What goes between the two processes: one JSON object a line, UTF-8, either way; docs/worker.md has all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

VERSION = 1  # another one where a field goes or means something else
LONGEST = 2**20  # bytes of a line; a storyboard is a file, so an order is short
PIECE = 2**16


def line(record: Mapping[str, Any]) -> bytes:
    """A record as a line."""
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def lines(descriptor: int) -> Iterator[bytes]:
    """The lines that come from a pipe, until it is closed. Raises `ValueError` for one that does not end.

    The pipe is read by itself: a thread that waits within `sys.stdin` cannot be left at the end of the process.
    """
    rest = b""
    while piece := os.read(descriptor, PIECE):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
        if len(rest) > LONGEST:
            raise ValueError(f"a line is longer than {LONGEST} bytes")
