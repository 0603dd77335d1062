"""Reading images from disk into buffers, by calls and not through page faults.

A page fault stops the thread for every 4 kB, reads no further than the kernel guesses, and counts as the process's
memory. A call reads a whole piece straight into the buffer it is wanted in.

Somebody may want to see what is read, to hash it: a witness, who is shown the bytes where they lie. The buffer is
not read into again before the witness is done.
"""

from __future__ import annotations

import io
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from torch import Tensor

from holo_lite.errors import CheckpointError
from holo_lite.streaming.image import BlockImage, Piece
from holo_lite.streaming.lane import Buffer

Witness = Callable[[Path, Sequence[tuple[int, memoryview]]], Future[None] | None]
MOST = 2**30  # bytes in one call; Linux reads no more than 2 GiB at once


def nobody(_path: Path, _read: Sequence[tuple[int, memoryview]]) -> None:
    """No witness."""


class DiskReader:
    """Reads pieces of files and keeps the files open. Use it from one thread at a time.

    `witness` is shown what was read of a file, each with its place there, and says until when it looks at it.
    """

    def __init__(self, witness: Witness = nobody) -> None:
        self._handles: dict[Path, int] = {}
        self._witness = witness

    def fill(self, image: BlockImage, host: Buffer) -> None:
        """Read an image into a host buffer, once nobody looks at that any more, and show it. Raises as `read`."""
        for seen in host.seen:
            seen.result()
        host.seen = ()
        self.read(image, host.data)
        host.seen = tuple(filter(None, self._shown(image, host.data)))

    def _shown(self, image: BlockImage, buffer: Tensor) -> Iterator[Future[None] | None]:
        raw: Any = buffer.numpy()
        target, files = memoryview(raw), defaultdict[Path, list[tuple[int, memoryview]]](list)
        for piece in image.pieces:
            files[piece.path].append((piece.offset, target[piece.place : piece.place + piece.nbytes]))
        for path, read in files.items():
            yield self._witness(path, read)

    def read(self, image: BlockImage, buffer: Tensor) -> None:
        """Fill the front of a uint8 CPU buffer with an image. Raises `CheckpointError` if the file fell short."""
        raw: Any = buffer.numpy()
        target = memoryview(raw)
        for piece in image.pieces:
            self._read(piece, target[piece.place : piece.place + piece.nbytes])

    def _read(self, piece: Piece, target: memoryview) -> None:
        handle, offset = self._handle(piece.path), piece.offset
        while target:
            try:
                got = _read_at(handle, target[:MOST], offset)
            except OSError as error:
                raise CheckpointError(f"{piece.path}: cannot be read ({error.strerror}); check the disk") from error
            if not got:
                raise CheckpointError(f"{piece.path}: ended early; it changed while it was in use")
            target, offset = target[got:], offset + got

    def _handle(self, path: Path) -> int:
        if path not in self._handles:
            try:
                self._handles[path] = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except OSError as error:
                raise CheckpointError(f"{path}: cannot be opened ({error.strerror}); check the model") from error
        return self._handles[path]

    def close(self) -> None:
        """Close all files."""
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()


def _read_at(handle: int, target: memoryview, offset: int) -> int:
    """Read into a buffer from a place in a file, in two calls on Windows, which has no single one for it.

    `os.read` would make a new object of up to a gigabyte, and copy it.
    """
    if hasattr(os, "preadv"):
        return os.preadv(handle, [target], offset)
    file = io.FileIO(handle, closefd=False)
    file.seek(offset)
    return file.readinto(target) or 0
