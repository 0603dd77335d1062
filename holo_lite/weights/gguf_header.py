"""The header of a GGUF file, believed only after it has been checked.

GGUF is: the word ``GGUF``, a version, two counts; then metadata, each a name, a type and a value; then for
every tensor its name, its dimensions, innermost first, the type of its blocks and where they begin; then the
data, at a multiple of the alignment. The gguf package reads this too, but trusts what it finds: a damaged
length sends it round a loop 2^60 times. Here every length is held against the bytes that are left.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from holo_lite.errors import CheckpointError
from holo_lite.reading.files import open_ordinary

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_DIMENSIONS = 8
LONGEST_KEPT = 16  # elements of an array in the metadata worth keeping; vocabularies are passed over
ALIGNMENT = 32
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9

Value = int | float | str | list[int | float] | None


@dataclass(frozen=True)
class GgufTensor:
    """What the header says of one tensor: dimensions outermost first, the blocks' type, the place in the file."""

    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """A checked header. `nbytes` of the file, which has `file_nbytes`, are header; data lies behind."""

    metadata: Mapping[str, Value]
    tensors: Mapping[str, GgufTensor]
    nbytes: int
    file_nbytes: int


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header of a file.

    Raises `CheckpointError`, naming `path`, for anything but a whole header of a known version.
    """
    try:
        with io.BufferedReader(open_ordinary(path)) as file:
            return _read(_Cursor(path, file))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _read(cursor: _Cursor) -> GgufHeader:
    path = cursor.path
    if cursor.start() != MAGIC:
        raise CheckpointError(f"{path}: is not a GGUF file; check that the download is complete")
    version = cursor.number("I")
    if version not in VERSIONS:
        raise CheckpointError(f"{path}: is GGUF version {version}, only 2 and 3 are read; get a newer conversion")
    count, entries = cursor.number("Q"), cursor.number("Q")
    metadata: dict[str, Value] = {}
    for _ in range(entries):
        name = cursor.name(metadata)
        metadata[name] = cursor.value(cursor.number("I"))
    found: dict[str, GgufTensor] = {}
    for _ in range(count):
        name = cursor.name(found)
        found[name] = cursor.tensor()
    alignment = _alignment(path, metadata)
    if crooked := [name for name, tensor in found.items() if tensor.offset % alignment]:
        raise CheckpointError(f"{path}: the place of tensor {crooked[0]} is damaged; download it again")
    start = -(-cursor.place // alignment) * alignment
    tensors = {name: GgufTensor(t.shape, t.kind, start + t.offset) for name, t in found.items()}
    return GgufHeader(metadata, tensors, start, cursor.nbytes)


def _alignment(path: Path, metadata: Mapping[str, Value]) -> int:
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1):
        raise CheckpointError(f"{path}: its alignment {alignment!a:.40} is not a power of two; download it again")
    return alignment


class _Cursor:
    """A place in a file that never passes its end, whose length is `nbytes`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.place = 0
        self.nbytes = os.fstat(file.fileno()).st_size
        self._file = file

    def start(self) -> bytes:
        """Read the first bytes, which may be fewer than GGUF's."""
        return self._take(min(len(MAGIC), self.nbytes))

    def number(self, code: str) -> int:
        """Read an unsigned number."""
        return int(self._numbers(code, 1)[0])

    def name(self, known: Mapping[str, object]) -> str:
        """Read a name, of a value or a tensor, that is not among those `known`."""
        name = self._string()
        if name in known or not name.isprintable():
            trouble = "comes twice" if name in known else "cannot be printed"
            raise CheckpointError(f"{self.path}: the name {name!a:.80} {trouble}; download it again")
        return name

    def value(self, kind: int) -> Value:
        """Read a value of the metadata; a long array and an array of strings are passed over, as None."""
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            return self._array(self.number("I"), self.number("Q"))
        return self._numbers(self._code(kind), 1)[0]

    def tensor(self) -> GgufTensor:
        """Read a tensor's entry, its offset still counted from the start of the data."""
        count = self.number("I")
        if not 1 <= count <= MOST_DIMENSIONS:
            raise CheckpointError(f"{self.path}: a tensor has {count} dimensions; download it again")
        dimensions = [self.number("Q") for _ in range(count)]
        return GgufTensor(tuple(reversed(dimensions)), self.number("I"), self.number("Q"))

    def _array(self, kind: int, count: int) -> list[int | float] | None:
        if kind == STRING:
            for _ in range(count):
                self._skip(self.number("Q"))
            return None
        code = self._code(kind)
        if count <= LONGEST_KEPT:
            return self._numbers(code, count)
        self._skip(count * struct.calcsize(f"<{code}"))
        return None

    def _code(self, kind: int) -> str:
        if kind not in SCALARS:
            raise CheckpointError(f"{self.path}: its metadata has values of the unknown type {kind}")
        return SCALARS[kind]

    def _numbers(self, code: str, count: int) -> list[int | float]:
        layout = f"<{count}{code}"
        return list(struct.unpack(layout, self._take(struct.calcsize(layout))))

    def _string(self) -> str:
        try:
            return self._take(self.number("Q")).decode("utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{self.path}: a name in it is not text; download it again") from error

    def _take(self, count: int) -> bytes:
        """Read the next `count` bytes."""
        self._step(count)
        found = self._file.read(count)
        if len(found) < count:
            raise CheckpointError(f"{self.path}: ended early; it changed while it was in use")
        return found

    def _skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        self._step(count)
        self._file.seek(self.place)

    def _step(self, count: int) -> None:
        if count > self.nbytes - self.place:
            raise CheckpointError(f"{self.path}: is cut short within its header; download it again")
        self.place += count
