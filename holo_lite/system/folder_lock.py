"""A folder that one process at a time works in.

The lock is a file in it, which the system lets go of when its holder dies: what a killed process left behind locks
nothing. A disk that knows no locks is used without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from holo_lite.errors import HoloError


@contextmanager
def holding(folder: Path, name: str, refusal: HoloError) -> Iterator[None]:
    """Hold a folder by a lock file of that name; both are made if need be, and go if nothing else came.

    Raises `refusal` while another process holds it.
    """
    lock = FileLock(folder / name, timeout=0)
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise refusal from None
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # before it is let go of, or it might be the next one's; Windows does so itself
            (folder / name).unlink()
        lock.release()
        with suppress(OSError):
            for one in (folder, *made[1:]):
                one.rmdir()
