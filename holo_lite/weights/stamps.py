"""Files as they were when a run began to read them, to notice that one was written to meanwhile.

A hash says what a file held while it was hashed. It says so of what was read before and after only as long as the
file stayed the same one, which its size, times and inode tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from holo_lite.errors import CheckpointError

Stamp = tuple[Path, int, int, int, int]  # a file as it was last written: path, size, times of change, inode


def stamp(path: Path) -> Stamp:
    """A file as it is now. Raises `OSError`."""
    found = path.stat()
    return path, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def renamed_or_linked(before: Stamp, now: Stamp) -> bool:
    """Whether a file may be the same inside: only the time changed that a link or other rights change, too."""
    return before != now and (*before[:3], before[4]) == (*now[:3], now[4])


class WatchedFiles:
    """The files of a part of a model, from now on."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.before: dict[Path, Stamp] = {}
        self.gone: CheckpointError | None = None
        for path in paths:
            try:
                self.before[path] = stamp(path)
            except OSError as error:
                self.gone = self.gone or CheckpointError(
                    f"{path}: cannot be read ({error.strerror}); check the disk"
                )

    def changed(self) -> list[tuple[Stamp, Stamp]]:
        """Files that are not as they were: before, and now. Raises `CheckpointError` for one that is gone."""
        try:
            pairs = [(before, stamp(path)) for path, before in self.before.items()]
        except OSError as error:
            raise CheckpointError(f"{error.filename}: was removed while the run used it; put it back") from error
        return [(before, now) for before, now in pairs if before != now]

    def check(self) -> None:
        """Raise `CheckpointError` for one that is gone, or that was written to."""
        if self.gone is not None:
            raise self.gone
        for before, now in self.changed():
            if not renamed_or_linked(before, now):
                raise written_to(now[0])


def written_to(path: Path) -> CheckpointError:
    """The error for a file that another hand wrote to while a run read it."""
    return CheckpointError(
        f"{path}: was written to while the run used it, so nothing computed with it since is kept; "
        "leave it alone and type the same command to go on"
    )
