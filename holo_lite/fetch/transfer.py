"""One file from the hub to its place, over as many attempts and days as it takes.

A file of 28 GB outlasts connections, and often the evening. `huggingface_hub` keeps nothing of a download that was
cut off (since its pull request #4228 every attempt has a file of its own; see its issue #4196), so what has come is
kept here: next to the target, under a name made from the file's digest, so that parts of two versions are never
joined. Everything that comes is hashed on its way, and a file bears its name only if its digest is the listed one.

It comes by Xet where that is to be had, as far as that gets, and the rest in one stream over HTTP.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Self

from holo_lite.errors import FetchError
from holo_lite.fetch import xet
from holo_lite.fetch.hub import PIECE, Hub, HubFile, PassingError
from holo_lite.progress import Note, PhaseAdvanced, PhaseEvent, PhaseStarted
from holo_lite.system.outputs import writing
from holo_lite.system.units import bytes_text
from holo_lite.system.whole_files import refuse_link, replace

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds, between attempts that brought nothing
SHA256_DIGITS = 64


def partial(file: HubFile, target: Path) -> Path:
    """Where what has come of a file is kept until it is whole. The hidden name is no model file's."""
    return target.with_name(f".{target.name}.{file.digest[:16]}.part")


def kept(file: HubFile, target: Path) -> int:
    """How many bytes have come before."""
    path = partial(file, target)
    return path.stat().st_size if path.is_file() else 0


class TransferPart:
    """What has come of a file so far, and its hash. A context manager; `file` is open while it lasts."""

    def __init__(self, published: HubFile, target: Path) -> None:
        self.published = published
        self.path = partial(published, target)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        refuse_link(self.path)
        self.file = self.path.open("a+b")
        self.digest = new_digest(published)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self.file.tell()

    def read(self) -> Iterator[PhaseEvent]:
        """Hash what came before. Of a part longer than its file nothing can be used."""
        length = self.file.seek(0, os.SEEK_END)
        if length > self.published.nbytes:
            self.clear()
        elif length:
            self.file.seek(0)
            yield PhaseStarted("check", length, subject=self.published.name)
            while piece := self.file.read(PIECE):
                self.digest.update(piece)
                yield PhaseAdvanced(self.size)

    def add(self, piece: bytes) -> None:
        """Append what has come now."""
        self.file.write(piece)
        self.digest.update(piece)

    def clear(self) -> None:
        """Start over."""
        self.file.seek(0)
        self.file.truncate()
        self.digest = new_digest(self.published)


def download(
    hub: Hub, file: HubFile, target: Path, wait: Callable[[float], None] = time.sleep
) -> Generator[PhaseEvent]:
    """Bring a file to `target`, continuing from the part downloaded before.

    `wait` sleeps, in seconds, between attempts. A lost connection is taken up again, five times unless more has
    come; then it raises the `FetchError`. Raises `OutputError` where the file cannot be written. Whatever happens,
    what has come is kept.
    """
    with writing(target):
        with TransferPart(file, target) as part:
            yield from part.read()
            yield PhaseStarted("fetch", file.nbytes, part.size, file.name)
            yield from _by_xet(hub, part)
            waits = iter(WAITS)
            while (before := part.size) < file.nbytes:
                try:
                    yield from _more(hub, part)
                except PassingError as error:
                    waits = waits if part.size == before else iter(WAITS)
                    yield from _pause(error, waits, part.size, wait)
            part.file.flush()
            os.fsync(part.file.fileno())
        _finish(part, target)


def is_published(path: Path, file: HubFile) -> bool:
    """Whether a file is the published one, by its size and digest; all of it is read."""
    try:
        if not path.is_file() or path.stat().st_size != file.nbytes:
            return False
        found = new_digest(file)
        with path.open("rb") as content:
            while piece := content.read(PIECE):
                found.update(piece)
    except OSError:
        return False
    return found.hexdigest() == file.digest


def new_digest(file: HubFile) -> hashlib._Hash:
    """The kind of digest the hub lists: SHA-256 of a large file, and of a small one git's own, of an object."""
    if len(file.digest) == SHA256_DIGITS:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.nbytes, usedforsecurity=False)


def _by_xet(hub: Hub, part: TransferPart) -> Iterator[PhaseEvent]:
    """Bring what Xet has, if that is worth its while. Whatever is wrong with it is a note, and no more."""
    file, begin = part.published, part.size
    if file.nbytes - begin < xet.LEAST or not xet.is_usable():
        return
    try:
        if (place := hub.xet(file)) is None:
            return
        with closing(xet.xet_pieces(place, range(begin, file.nbytes), hub.timeout)) as pieces:
            for piece in pieces:
                part.add(piece[: file.nbytes - part.size])
                yield PhaseAdvanced(part.size)
        if part.size < file.nbytes:
            raise FetchError(f"{place.endpoint}: Xet ended early")
    except FetchError as error:
        yield Note(f"{error}; continuing over HTTP at {bytes_text(part.size)}")


def _more(hub: Hub, part: TransferPart) -> Iterator[PhaseEvent]:
    """Fetch from where the part ends. Raises `PassingError` if the rest does not all come."""
    file = part.published
    with hub.open(file, part.size) as stream:
        if stream.start != part.size:
            part.clear()  # some servers know no parts, and give the whole
        for piece in stream.pieces:
            part.add(piece[: file.nbytes - part.size])  # whoever sends more than is listed fills no disk
            yield PhaseAdvanced(part.size)
            if part.size == file.nbytes:
                break
    if part.size < file.nbytes:
        raise PassingError(f"{file.path}: ended early")


def _pause(
    error: PassingError, attempts: Iterator[float], done: int, wait: Callable[[float], None]
) -> Iterator[PhaseEvent]:
    seconds = next(attempts, None)
    if seconds is None:
        raise FetchError(f"{error}; the downloaded part is kept: type the same command to continue") from error
    yield Note(f"{error}; continuing at {bytes_text(done)} in {seconds:.0f} s")
    wait(seconds)


def _finish(part: TransferPart, target: Path) -> None:
    if part.digest.hexdigest() != part.published.digest:
        part.path.unlink()
        raise FetchError(
            f"{target}: the download is not the file that {part.published.repository} lists (its digest differs) "
            "and was removed; type the same command again"
        )
    replace(part.path, target)
