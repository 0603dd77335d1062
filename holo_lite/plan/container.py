"""What a container may take of main memory: Linux ends a process that takes more, however much the machine has.

Limits are set on control groups, of which there are two kinds, version 1 and 2, and every group above one's own
counts as well. Files in memory that nobody uses are dropped before anyone is ended, so they are no use of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OWN = Path("/proc/self/cgroup")  # the groups of this process
MOUNTED = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class GroupFiles:
    """What files of a control group are called: its limit, its use, and the row of its statistics for old files."""

    limit: str
    used: str
    droppable: str


VERSION_1 = GroupFiles("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = GroupFiles("memory.max", "memory.current", "inactive_file")


@dataclass(frozen=True)
class MemoryLimit:
    """A limit in bytes, and how much of it is left."""

    limit: int
    free: int


def tightest(own: Path = OWN, mounted: Path = MOUNTED) -> MemoryLimit | None:
    """The limit that leaves least, or None if there is none or none can be read."""
    found = [limit for folder, files in _groups(own, mounted) if (limit := _limit(folder, files)) is not None]
    return min(found, key=lambda each: each.free, default=None)


def _groups(own: Path, mounted: Path) -> Iterator[tuple[Path, GroupFiles]]:
    """The folders of this process's groups and of all above them."""
    for line in _text(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        root, files = (mounted / "memory", VERSION_1) if controllers else (mounted, VERSION_2)
        group = root / name.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):  # in a container its own group may be the root that is mounted
                yield folder, files


def _limit(folder: Path, files: GroupFiles) -> MemoryLimit | None:
    limit = _number(_text(folder / files.limit))
    if limit is None:
        return None
    used = _number(_text(folder / files.used)) or 0
    rows = dict(line.split()[:2] for line in _text(folder / "memory.stat").splitlines() if len(line.split()) > 1)
    droppable = _number(rows.get(files.droppable, "")) or 0
    return MemoryLimit(limit, max(0, limit - max(0, used - droppable)))


def _number(text: str) -> int | None:
    """Bytes; None for ``max``."""
    return int(text) if text.strip().isascii() and text.strip().isdigit() else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
