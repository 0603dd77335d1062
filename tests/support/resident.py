"""The memory of this process: what it made itself, and what of its mapped files is in memory."""

from pathlib import Path
from typing import NamedTuple


class Resident(NamedTuple):
    anonymous: int
    file: int


def resident():
    """Bytes of both kinds. The kernel counts them apart; from outside Linux this cannot be known."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return Resident(*(int(rows[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")))
