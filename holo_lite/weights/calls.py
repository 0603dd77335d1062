"""Reading tensors by calls, into memory of their own.

What is mapped ends the process (SIGBUS) when its file is cut short, or its disk fails, while it is touched. A call
says so, and becomes an error of one line. So no file of weights is read through a mapping, by whatever it is read.
"""

from __future__ import annotations

import io
import math
import os
import sys
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from holo_lite.errors import CheckpointError
from holo_lite.weights.weight_file import EVERYTHING, TensorEntry

MOST = 2**30  # bytes in one call; Linux reads no more than 2 GiB at once


@runtime_checkable
class PlacedFile(Protocol):
    """A file of weights that can say where each tensor's bytes lie."""

    def place(self, name: str) -> tuple[Path, int]:
        """The file a tensor is in, and the byte at which it begins. Raises `CheckpointError` if it is in pieces."""


def read_rows(path: Path, entry: TensorEntry, rows: slice = EVERYTHING) -> Tensor:
    """Read a tensor that begins at the entry's offset in a file, or `rows` of it, in the dtype of the file.

    Raises `CheckpointError` for a file that falls short.
    """
    shape, offset = entry.shape, entry.offset
    if rows != EVERYTHING:
        start, stop, _ = rows.indices(shape[0])
        shape = (max(0, stop - start), *shape[1:])
        offset += start * math.prod(shape[1:]) * entry.dtype.itemsize
    tensor = torch.empty(shape, dtype=entry.dtype)
    if tensor.numel():
        with OpenFiles() as files:
            files.fill(path, offset, bytes_of(tensor))
    return tensor


def bytes_of(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, to be written to."""
    raw: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(raw)


class OpenFiles:
    """Files that stay open between reads; a context manager. Use it from one thread at a time."""

    def __init__(self) -> None:
        self._handles: dict[Path, int] = {}

    def fill(self, path: Path, offset: int, target: memoryview) -> None:
        """Fill a buffer with bytes of a file from `offset` on. Raises `CheckpointError` if it falls short."""
        handle = self.handle(path)
        while target:
            try:
                got = _read_once(handle, target[:MOST], offset)
            except OSError as error:
                raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check the disk") from error
            if not got:
                raise CheckpointError(f"{path}: ended early; it changed while it was in use")
            target, offset = target[got:], offset + got

    def handle(self, path: Path) -> int:
        """The file, open. Raises `CheckpointError` if it cannot be."""
        if path not in self._handles:
            try:
                self._handles[path] = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except OSError as error:
                raise CheckpointError(f"{path}: cannot be opened ({error.strerror}); check the model") from error
        return self._handles[path]

    def close(self) -> None:
        """Close all of them."""
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()

    def __enter__(self) -> OpenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read_once(handle: int, target: memoryview, offset: int) -> int:
    """Read into a buffer from a place in a file, in two calls on Windows, which has no single one for it.

    `os.read` would make a new object of up to a gigabyte, and copy it.
    """
    if sys.platform != "win32" and hasattr(os, "preadv"):
        return os.preadv(handle, [target], offset)
    file = io.FileIO(handle, closefd=False)
    file.seek(offset)
    return file.readinto(target) or 0
