"""A fetch from beginning to end: the missing files, then whether they make a model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace
from pathlib import Path

from holo_lite.cancel import Cancel
from holo_lite.errors import FetchError, OutputError
from holo_lite.fetch.hub import PIECE, Hub
from holo_lite.fetch.order import Fetched, FetchOrder, OrderItem
from holo_lite.fetch.transfer import download
from holo_lite.progress import Note, PhaseAdvanced, PhaseEvent, PhaseStarted
from holo_lite.system.folder_lock import holding
from holo_lite.system.outputs import writing
from holo_lite.system.whole_files import draft

LOCK = ".fetch.lock"
IN_ALL = "in all"  # what a fetch counts: the bytes of all its files


FetchEvent = PhaseEvent | Fetched


def fetch(
    order: FetchOrder, hub: Hub, wait: Callable[[float], None] | None = None, cancel: Cancel | None = None
) -> Generator[FetchEvent, None, None]:
    """Bring what is missing, one file after another, and check all of it.

    By the token `cancel` any thread ends it before the next piece of a file, and while it waits to try again; what
    has come is kept. Raises `FetchError`, `OutputError`, and `CheckpointError` for files that make no model.
    """
    cancel, start = cancel or Cancel(), time.monotonic()
    with closing(cancel.between(_brought(order, hub, wait or cancel.wait))) as events:
        yield from events
    yield PhaseStarted("names", 0)
    check(order)
    yield Fetched(order, time.monotonic() - start)


def _brought(order: FetchOrder, hub: Hub, wait: Callable[[float], None]) -> Generator[PhaseEvent, None, None]:
    came = {item: item.came for item in order.items if item.means == "fetch"}
    total = sum(item.file.nbytes for item in came)
    with _alone(order.folder):
        for item in order.items:
            if item.means == "fetch":
                others = sum(came.values()) - came[item]
                yield from _of_all(download(hub, item.file, item.target, wait), others, total)
                came[item] = item.file.nbytes
            elif item.means != "there":
                yield from _from_cache(item)


def _of_all(events: Generator[PhaseEvent], others: int, total: int) -> Iterator[PhaseEvent]:
    """A file's events, with bytes that count towards all files: what is left, in bytes and time, is of all."""
    is_fetch = False
    with closing(events):
        for event in events:
            if isinstance(event, PhaseStarted):
                is_fetch = event.phase == "fetch"
                yield replace(event, total=total, done=others + event.done) if is_fetch else event
            elif isinstance(event, PhaseAdvanced) and is_fetch:
                yield PhaseAdvanced(others + event.done, IN_ALL)
            else:
                yield event


def check(order: FetchOrder) -> None:
    """Check sizes, headers, names and shapes. Raises `CheckpointError`, or `FetchError` for a wrong size."""
    from holo_lite.opening.checks import find_model

    for item in order.items:
        found = item.target.stat().st_size
        if found != item.file.nbytes:
            raise FetchError(
                f"{item.target}: has {found} of {item.file.nbytes} bytes; remove it and fetch it again"
            )
    find_model(order.folder, order.variant)


def _alone(folder: Path) -> AbstractContextManager[None]:
    """Hold the folder: two fetches at once would append to the same files. Raises `OutputError`."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    refusal = OutputError(f"{folder}: another fetch is writing there; wait for it or stop it")
    return holding(folder, LOCK, refusal)


def _from_cache(item: OrderItem) -> Iterator[PhaseEvent]:
    """Take a file from the hub's cache: a second name for it if the disk can do that, else a copy."""
    assert item.cached is not None, "only what the cache holds is linked or copied"
    with writing(item.target):
        item.target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # another disk, or one whose file system knows no links
            os.link(item.cached, item.target)
            yield Note(f"{item.file.name}: linked from {item.cached.parent.parent}")
            return
        yield PhaseStarted("copy", item.file.nbytes, subject=item.file.name)
        with draft(item.target) as partial, item.cached.open("rb") as source, partial.open("wb") as copy:
            while piece := source.read(PIECE):
                copy.write(piece)
                yield PhaseAdvanced(copy.tell())
