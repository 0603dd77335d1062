"""How fast a disk reads, by reading a little.

What was read lately is still in memory, and reading it again measures memory. So the read goes round the system's
cache where the system has a way: ``O_DIRECT`` on Linux, ``F_NOCACHE`` on a Mac. Where it has none, or the file
system refuses (tmpfs does), pages are dropped as far as that can be asked for, and the figure is marked.
"""

from __future__ import annotations

import mmap
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from holo_lite.doctor.facts import DiskFacts

PIECE = 2**24  # bytes a read; direct ones need multiples of the disk's blocks
MOST_BYTES = 2**30
MOST_SECONDS = 1.5
OWN_FILE = 2**27  # bytes of a file made for this, where there is none
SPARE = 2**30  # bytes that must be free for that


def disk(folder: Path, model: Path | None) -> DiskFacts:
    """Measure the disk of a folder by the largest file of the model there, or by one made for it and removed."""
    free = shutil.disk_usage(folder).free
    files = [file for file in (model or folder).rglob("*") if file.is_file()] if model is not None else []
    largest = max(files, key=lambda file: file.stat().st_size, default=None)
    if largest is not None and largest.stat().st_size >= PIECE:
        return _measured(folder, free, largest, largest.name)
    if free < SPARE or not os.access(folder, os.W_OK):
        return DiskFacts(folder, free)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".holo-lite-") as own:
        noise = os.urandom(PIECE)  # some disks pack what repeats within a block
        for _ in range(OWN_FILE // PIECE):
            own.write(noise)
        own.flush()
        os.fsync(own.fileno())
        return _measured(folder, free, Path(own.name), "a file made for it")


def _measured(folder: Path, free: int, file: Path, of: str) -> DiskFacts:
    for way in (_round_the_cache, _through_the_cache):
        rate = _rate(file, way)
        if rate is not None:
            return DiskFacts(folder, free, rate, way is _through_the_cache, of)
    return DiskFacts(folder, free)


def _round_the_cache(file: Path) -> int:
    """Open a file for reads from the disk itself. Raises `OSError` where that is not possible."""
    if hasattr(os, "O_DIRECT"):
        return os.open(file, os.O_RDONLY | os.O_DIRECT)
    if sys.platform != "darwin":
        raise OSError("this system reads through its cache only")
    import fcntl

    handle = _through_the_cache(file)
    fcntl.fcntl(handle, fcntl.F_NOCACHE, 1)
    return handle


def _through_the_cache(file: Path) -> int:
    """Open a file for ordinary reads, with its pages dropped from memory if that can be asked for."""
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    if sys.platform != "win32" and sys.platform != "darwin":
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    return handle


def _rate(file: Path, way: Callable[[Path], int]) -> float | None:
    """Bytes a second; None where the file cannot be read that way."""
    try:
        handle = way(file)
    except OSError:
        return None
    start, done = time.perf_counter(), 0
    try:
        with mmap.mmap(-1, PIECE) as pages, open(handle, "rb", buffering=0) as source:
            while got := source.readinto(pages):
                done += got
                if done >= MOST_BYTES or time.perf_counter() - start >= MOST_SECONDS:
                    break
    except OSError:
        return None
    return done / (time.perf_counter() - start) if done else None
