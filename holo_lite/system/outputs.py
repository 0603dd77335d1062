"""Files that a person asked for: whole under their name or not there, and a failed write is one line.

Until it is whole a file has one name known beforehand, so that the command that is typed again, or the one that
clears away, finds what a killed process left. Only one process writes at a place at a time: others are kept out by
a lock of the folder.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holo_lite.errors import OutputError
from holo_lite.system.file_names import is_device
from holo_lite.system.whole_files import WINDOWS, draft, make_folder

PARTIAL = ".partial"
FULL = (errno.ENOSPC, errno.EDQUOT)


def partial_name(path: Path) -> Path:
    """The name under which a file is written before it is whole."""
    return path.with_name(path.name + PARTIAL)


def write_output(path: Path, content: bytes) -> None:
    """Write a small file, and make its folder where it is missing. Raises `OutputError`."""
    with writing(path):
        make_folder(path.parent)
        with draft(path, partial_name(path)) as partial:
            partial.write_bytes(content)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says about a failed write into one line, an `OutputError`; nothing goes to a device."""
    if WINDOWS and is_device(path.name):
        raise OutputError(f"{path}: Windows takes this name for a device; choose another, such as my-{path.name}")
    try:
        yield
    except OSError as error:
        raise failed_write(path, error.errno, error.strerror or str(error)) from error


def failed_write(path: Path, number: int | None, said: str | None) -> OutputError:
    """The error for a write that failed with the system's number and words."""
    if number in FULL:
        return OutputError(f"{path}: the disk is full; free some space and type the same command again")
    return OutputError(
        f"{path}: cannot be written ({said or 'for no reason that the system gives'}); choose another place"
    )
