"""Importing a library without its remarks.

Some libraries log, when imported, that one of their optional packages is missing. That does not concern a person
who makes a video. The logger is quiet for as long as the import takes and then as it was: how another library logs
is for the program to decide, not for this one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

BITSANDBYTES = "bitsandbytes.backends.cpu.ops"  # asks for the package `kernels`, which nothing here uses


@contextmanager
def without_remarks(name: str = BITSANDBYTES) -> Iterator[None]:
    """Let only errors of the logger `name` through, while the context lasts."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
