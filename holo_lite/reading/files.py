"""Files that anybody may have written: read only if they are ordinary, and no larger than such a file can be.

A pipe in the place of a file would be waited for, a device read without end.
"""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path

LARGEST_TEXT = 64 * 2**20  # bytes of a file that people write, or programs for them
NOT_ORDINARY = "is a pipe or a device, not a file"


def open_ordinary(path: Path) -> FileIO:
    """Open a file to read, unbuffered. Raises `OSError` for a pipe, a device or a folder, without waiting."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, NOT_ORDINARY, str(path))
        return FileIO(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path, most: int = LARGEST_TEXT) -> bytes:
    """All of an ordinary file of at most so many bytes. Raises `OSError`."""
    with open_ordinary(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, "is too large for a file of its kind", str(path))
        return file.read(most)


def read_text(path: Path) -> str:
    """All of an ordinary UTF-8 file. Raises `OSError`, and `ValueError` for what is no UTF-8."""
    return read_bytes(path).decode("utf-8")
