"""Files that are whole under their name and on the disk, or not there.

They are written under a temporary name in the same folder, brought onto the disk and renamed, and the rename is
brought onto the disk, too: whoever removes something when a file has its name can rely on it after a power cut. A
process that is killed may leave the temporary one behind, for `sweep` to remove; an exception does not, Ctrl-C
included. Links at temporary names are never followed.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LONGEST_STEM = 180  # bytes of a name that a temporary one can repeat: file systems end at 255
WINDOWS = os.name == "nt"
BUSY = (0.01, 0.05, 0.1, 0.2, 0.4, 0.8)  # seconds between two tries
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # what disks say that cannot do it
BINARY = getattr(os, "O_BINARY", 0)  # Windows


class Draft:
    """A file before it has its name: written at `partial`, then kept or discarded.

    Without a name given for it `partial` is this thread's own, and hidden.
    """

    def __init__(self, path: Path, partial: Path | None = None) -> None:
        self.path = path
        own = f".{_stem(path)}.{os.getpid()}-{threading.get_ident()}.part"
        self.partial = path.with_name(own) if partial is None else partial

    def begin(self) -> None:
        """Make the temporary file, empty, in place of whatever has its name. Raises `OSError`."""
        make_new(self.partial)

    def keep(self) -> None:
        """Bring it onto the disk and give it its name, over whatever bears it. Raises `OSError`."""
        sync_file(self.partial)
        replace(self.partial, self.path)
        sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove the rest of it, if there is any."""
        with suppress(OSError):
            self.partial.unlink()


@contextmanager
def draft(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Give a path to write to, which becomes `path` if the block ends well. Raises `OSError`."""
    file = Draft(path, partial)
    try:
        file.begin()
        yield file.partial
        file.keep()
    finally:
        file.discard()


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file. Raises `OSError`."""
    with draft(path) as partial:
        partial.write_bytes(content)


def sweep(path: Path) -> None:
    """Remove temporary files that ended processes left behind for a file. Failures are ignored."""
    import psutil

    stem = _stem(path)
    for left in path.parent.glob(f".{glob.escape(stem)}.*.part"):
        writer = re.fullmatch(r"(\d{1,9})-\d+", left.name[len(stem) + 2 : -len(".part")])
        if writer and not psutil.pid_exists(int(writer[1])):
            with suppress(OSError):
                left.unlink()


def make_new(path: Path) -> None:
    """Make an empty file in place of whatever has its name: a link is removed, not followed. Raises `OSError`."""
    with suppress(FileNotFoundError):
        path.unlink()
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def refuse_link(path: Path) -> None:
    """Raise `OSError` where a link has the name of a file that is to be added to."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, f"a link is named {path.name}; remove it", str(path))


def replace(source: Path, target: Path) -> None:
    """Give a file another name, over whatever bears it. Raises `OSError`.

    Windows refuses while another program has one of them open, as those that look for viruses do with new files: so
    for a second or two it is tried again.
    """
    for seconds in BUSY if WINDOWS else ():
        with suppress(PermissionError):
            os.replace(source, target)
            return
        time.sleep(seconds)
    os.replace(source, target)


def sync_file(path: Path) -> None:
    """Bring a file's content onto the disk. Raises `OSError`."""
    handle = os.open(path, os.O_RDWR | BINARY)  # Windows flushes only what may be written
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder onto the disk, where the system can. Raises `OSError`."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they are there after a power cut. Raises `OSError`."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        with suppress(PermissionError):  # a folder that one may pass through and not read
            sync_folder(each.parent)


def _stem(path: Path) -> str:
    """A file's name as temporary names repeat it: a long one is told by its hash."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= LONGEST_STEM else hashlib.sha256(name).hexdigest()[:32]
