"""Tables in the cache folder: JSON files of ours that may be lost, and that are never trusted.

What is there is checked by the type of its entries. A file that is something else is set aside under another name,
with a line in the log, and the table begins empty: whoever asks makes the entry again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import GenericAlias
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout

from holo_lite.errors import RecordError
from holo_lite.reading.files import read_bytes
from holo_lite.reading.trees import check, parse
from holo_lite.system.records import convert, plain
from holo_lite.system.whole_files import replace, write_whole

ASIDE = ".set-aside"
TURN = 5.0  # seconds: longer than another process needs to write a small file
T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JsonTable(Generic[T]):
    """Entries of one type by key, in a file that need not exist. what: it is about, to a person."""

    path: Path
    kind: Any  # T, or an annotated T with bounds
    what: str

    def get(self, key: str) -> T | None:
        """The entry of a key, if there is one."""
        return self._read().get(key)

    def keep(self, key: str, entry: T) -> None:
        """Put an entry in. A folder that cannot be written is a warning."""
        with _by_turns(self.path):
            keep(self.path, {**self._read(), key: entry}, self.what)

    def _read(self) -> Mapping[str, T]:
        return read(self.path, GenericAlias(dict, (str, self.kind)), self.what) or {}


def read(path: Path, kind: Any, what: str) -> Any:
    """What a file of the cache holds, as a `kind`; None if it is not there, or set aside as damaged."""
    try:
        found = parse(read_bytes(path)) if path.is_file() else None
        if found is None:
            return None
        check(found)
        return convert(found, kind)
    except RecordError as error:
        _set_aside(path, f"{what}: made again, since {path.name} is damaged ({error})")
    except OSError as error:
        logger.warning("%s: made again (%s)", what, str(error))
    return None


def keep(path: Path, entries: object, what: str) -> None:
    """Write a file of the cache, whole or not at all. A folder that cannot be written is a warning."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(plain(entries), indent=1).encode())
    except OSError as error:
        logger.warning("%s: not kept (%s)", what, str(error))


@contextmanager
def _by_turns(path: Path) -> Iterator[None]:
    """One process of this machine after the other: ranks of a clip have something to keep at the same moment.

    The lock is not in the cache, which has nothing but what can be made again, and its file goes with it. Where
    there is none to be had, an entry may be lost.
    """
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:24]
    place = Path(tempfile.gettempdir()) / f"holo-lite-{name}.lock"
    lock = FileLock(place, timeout=TURN)
    try:
        lock.acquire()
    except (Timeout, OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # before it is let go of; Windows does so itself
            place.unlink()
        lock.release()


def _set_aside(path: Path, why: str) -> None:
    try:
        replace(path, path.with_name(path.name + ASIDE))
        logger.warning("%s; it is now %s", why, path.name + ASIDE)
    except OSError as error:
        logger.warning("%s; it cannot be set aside: %s", why, str(error))
