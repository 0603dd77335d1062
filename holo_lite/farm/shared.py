"""A folder that all machines see: the driver leaves a note in it, which every machine must find."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from holo_lite.system.outputs import write_output

PATIENCE = 20.0  # seconds in which a shared disk shows a new file to another machine
TURN = 0.5


@dataclass(frozen=True)
class Note:
    """A small file with a text that nobody else writes."""

    path: str
    text: str

    def is_seen(self) -> bool:
        """Whether it is there, on this machine; a disk over the network may show it late."""
        end = time.monotonic() + PATIENCE
        while not self._is_there():
            if time.monotonic() >= end:
                return False
            time.sleep(TURN)
        return True

    def _is_there(self) -> bool:
        try:
            return Path(self.path).read_text(encoding="ascii") == self.text
        except (OSError, UnicodeDecodeError):
            return False


@contextmanager
def note_in(folder: Path) -> Iterator[Note]:
    """Leave a note in a folder, which is made if need be; it goes at the end. Raises `OutputError`."""
    name = uuid.uuid4().hex
    note = Note(str(folder / f".holo-lite-{name[:8]}"), name)
    write_output(Path(note.path), name.encode("ascii"))
    try:
        yield note
    finally:
        with suppress(OSError):
            Path(note.path).unlink()
