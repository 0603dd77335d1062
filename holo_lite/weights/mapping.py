"""A large file as memory, and enough of its data to distinguish it from another.

Mapping costs no memory of its own: pages are read when they are touched, and the system may drop them again.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

from holo_lite.errors import CheckpointError
from holo_lite.reading.files import open_ordinary

SAMPLES = 16  # places at which a file's data is sampled for its fingerprint
SAMPLE_BYTES = 65_536
MAP_NORESERVE = 0x4000  # Linux; Python's mmap module does not name it


def map_file(path: Path) -> mmap.mmap:
    """Map a file: read when touched, copied where written to, never changed on disk.

    Raises `CheckpointError` when it cannot be opened, is empty, or the memory limits forbid it.
    """
    try:
        with open_ordinary(path) as file:
            if sys.platform == "linux":
                flags = mmap.MAP_PRIVATE | MAP_NORESERVE
                return mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot be mapped ({error}); check the file and the memory limits"
        ) from error


def check_length(path: Path, nbytes: int) -> None:
    """Raise `CheckpointError` for a file that is shorter than when it was mapped: touching what is gone ends us.

    It is asked before every mapped tensor. A file that is cut while one is in use ends the process: so a run
    reads by calls (`holo_lite.weights.calls`).
    """
    try:
        left = path.stat().st_size
    except OSError:
        return  # removed, or of a disk that is gone: what is mapped stays, or reading it says so
    if left < nbytes:
        raise CheckpointError(f"{path}: was cut short while it was in use; put the file back")


def samples(path: Path) -> Iterator[bytes]:
    """Yield sixteen pieces of a file, spread evenly from its beginning to its end."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for index in range(SAMPLES):
            file.seek(max(0, size - SAMPLE_BYTES) * index // (SAMPLES - 1))
            yield file.read(SAMPLE_BYTES)
