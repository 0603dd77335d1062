"""Files that are whole under their name, or not there.

They are written under a temporary name in the same folder and renamed when complete. A process that is killed may
leave the temporary one behind, for `sweep` to remove; an exception does not, Ctrl-C included. Nothing here is made
durable: after a power cut a file may be gone. What must survive that is the converter's, which has its own writer.
"""

from __future__ import annotations

import glob
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Draft:
    """A file before it has its name: written at `partial`, then kept or discarded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")

    def keep(self) -> None:
        """Give it its name, over whatever bears it. Raises `OSError`."""
        os.replace(self.partial, self.path)

    def discard(self) -> None:
        """Remove the rest of it, if there is any."""
        with suppress(OSError):
            self.partial.unlink()


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `path` if the block ends well. Raises `OSError`."""
    file = Draft(path)
    try:
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

    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        writer = re.fullmatch(r"(\d{1,9})-\d+", left.name[len(path.name) + 2 : -len(".part")])
        if writer and not psutil.pid_exists(int(writer[1])):
            with suppress(OSError):
                left.unlink()
