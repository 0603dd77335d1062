"""The header of a safetensors file, believed only after it has been checked, and read without PyTorch.

A safetensors file is: 8 bytes, the header's length; the header, JSON that gives every tensor its dtype,
shape and place; then the data. A torn download or a hand-edited header shows as a place outside the file
or a size that does not fit the shape. It is found here, by name, before anyone maps a byte.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from holo_lite.errors import CheckpointError
from holo_lite.reading.files import open_ordinary
from holo_lite.reading.trees import parse_json

FILLER = "filler."  # begins the names of tensors that only fill a gap, in files written here
LARGEST_HEADER = 100_000_000
LARGEST_NUMBER = 2**63 - 1
MOST_DIMENSIONS = 16
ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "I16": 2,
    "I32": 4,
    "I64": 8,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F16": 2,
    "BF16": 2,
    "F32": 4,
    "F64": 8,
}


@dataclass(frozen=True)
class PlainEntry:
    """What a file says of one tensor."""

    shape: tuple[int, ...]
    dtype: str  # as safetensors names it: ``BF16``
    offset: int  # bytes from the start of the file

    @property
    def nbytes(self) -> int:
        """The tensor's size in bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class PlainHeader:
    """A checked header, its dtypes by their names."""

    entries: Mapping[str, PlainEntry]
    metadata: Mapping[str, str]
    sha256: str


def read_plain_header(path: Path) -> PlainHeader:
    """Read and check the header of a safetensors file.

    Raises `CheckpointError` when the file is missing, cut short, or its header contradicts its length.
    """
    try:
        raw = _read_raw(path)
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return _checked(path, raw, size)


@lru_cache(maxsize=32)
def _checked(path: Path, raw: bytes, size: int) -> PlainHeader:
    """What the bytes of a header say of a file so long.

    A file is opened ten times in a short run, by each part that uses it, and the same bytes say the same.
    """
    header = _parse(path, raw)
    metadata = {key: str(value) for key, value in header.pop("__metadata__", {}).items()}
    start = 8 + len(raw)
    entries = {name: _entry(path, name, value, start, size) for name, value in header.items()}
    _check_cover(path, entries, start, size)
    return PlainHeader(entries, metadata, hashlib.sha256(raw).hexdigest())


def _read_raw(path: Path) -> bytes:
    with open_ordinary(path) as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= LARGEST_HEADER:
            raise CheckpointError(f"{path}: is not a safetensors file; check that the download is complete")
        raw = file.read(length)
    if len(raw) < length:
        raise CheckpointError(f"{path}: is cut short within its header; download it again")
    return raw


def _parse(path: Path, raw: bytes) -> dict[str, dict[str, object]]:
    try:
        header = parse_json(raw.decode("utf-8"), _table)
    except ValueError as error:
        raise CheckpointError(f"{path}: its safetensors header is damaged ({error}); download it again") from error
    if not isinstance(header, dict) or not all(isinstance(value, dict) for value in header.values()):
        raise CheckpointError(f"{path}: its safetensors header is damaged; download it again")
    return header


def _table(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object as a dict; `json` itself would take the last of two equal names."""
    table: dict[str, object] = {}
    for name, value in pairs:
        if name in table or not name.isprintable():
            raise ValueError(f"the name {name!a} {'comes twice' if name in table else 'cannot be printed'}")
        table[name] = value
    return table


def _entry(path: Path, name: str, value: Mapping[str, object], start: int, size: int) -> PlainEntry:
    dtype = str(value.get("dtype"))
    shape, offsets = _integers(value.get("shape")), _integers(value.get("data_offsets"))
    if dtype not in ITEM_BYTES:
        raise CheckpointError(f"{path}: tensor {name} has the unknown dtype {value.get('dtype')!a:.40}")
    if shape is None or offsets is None or len(offsets) != 2:
        raise CheckpointError(f"{path}: the header entry of tensor {name} is damaged; download it again")
    if len(shape) > MOST_DIMENSIONS or math.prod(max(n, 1) for n in shape) > LARGEST_NUMBER // ITEM_BYTES[dtype]:
        raise CheckpointError(f"{path}: the size of tensor {name} is impossibly large; download it again")
    entry = PlainEntry(shape, dtype, start + offsets[0])
    if offsets[1] - offsets[0] != entry.nbytes:
        raise CheckpointError(f"{path}: the size of tensor {name} contradicts its shape; download it again")
    if start + offsets[1] > size:
        raise CheckpointError(
            f"{path}: is cut short: tensor {name} ends at byte {start + offsets[1]}, the file at {size}; "
            "download it again"
        )
    return entry


def _integers(value: object) -> tuple[int, ...] | None:
    """A list of non-negative integers as a tuple, or None for anything else."""
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item <= LARGEST_NUMBER for item in value):
        return None
    return tuple(value)


def _check_cover(path: Path, entries: Mapping[str, PlainEntry], start: int, size: int) -> None:
    """The tensors must lie end to end: no overlap, no hole, nothing behind the last."""
    place = start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if entry.offset != place:
            raise CheckpointError(f"{path}: tensor {name} does not begin where the previous one ends")
        place += entry.nbytes
    if place != size:
        raise CheckpointError(f"{path}: {size - place} bytes follow the last tensor; download it again")
