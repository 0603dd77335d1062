"""A fetch from beginning to end: the missing files, then whether they make a model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from holo_lite.errors import FetchError, OutputError
from holo_lite.fetch.hub import PIECE, Hub
from holo_lite.fetch.order import FetchOrder, OrderItem
from holo_lite.fetch.transfer import Advanced, Begun, Event, Note, download, writing
from holo_lite.system.folder_lock import holding
from holo_lite.system.whole_files import draft

LOCK = ".fetch.lock"


@dataclass(frozen=True)
class Checking:
    """All files are there; their headers, names and shapes are read."""


@dataclass(frozen=True)
class Fetched:
    """The folder is a model."""

    order: FetchOrder


def fetch(
    order: FetchOrder, hub: Hub, wait: Callable[[float], None] = time.sleep
) -> Generator[Event | Checking | Fetched, None, None]:
    """Bring what is missing, one file after another, and check all of it.

    Raises `FetchError`, `OutputError`, and `CheckpointError` for files that make no model.
    """
    with _alone(order.folder):
        for item in order.items:
            if item.means == "fetch":
                yield from download(hub, item.file, item.target, wait)
            elif item.means != "there":
                yield from _from_cache(item)
    yield Checking()
    check(order)
    yield Fetched(order)


def check(order: FetchOrder) -> None:
    """Check sizes, headers, names and shapes. Raises `CheckpointError`, or `FetchError` for a wrong size."""
    from holo_lite.opening.checks import check_parts
    from holo_lite.weights.folder import open_folder

    for item in order.items:
        found = item.target.stat().st_size
        if found != item.file.nbytes:
            raise FetchError(
                f"{item.target}: has {found} of {item.file.nbytes} bytes; remove it and fetch it again"
            )
    check_parts(open_folder(order.folder, order.variant))


def _alone(folder: Path) -> AbstractContextManager[None]:
    """Hold the folder: two fetches at once would append to the same files. Raises `OutputError`."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    refusal = OutputError(f"{folder}: another fetch is writing there; wait for it or stop it")
    return holding(folder, LOCK, refusal)


def _from_cache(item: OrderItem) -> Iterator[Event]:
    """Take a file from the hub's cache: a second name for it if the disk can do that, else a copy."""
    assert item.cached is not None, "only what the cache holds is linked or copied"
    with writing(item.target):
        item.target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # another disk, or one whose file system knows no links
            os.link(item.cached, item.target)
            yield Note(f"{item.file.name}: linked from {item.cached.parent.parent}")
            return
        yield Begun("copy", item.file.name, item.file.nbytes)
        with draft(item.target) as partial, item.cached.open("rb") as source, partial.open("wb") as copy:
            while piece := source.read(PIECE):
                copy.write(piece)
                yield Advanced(copy.tell())
