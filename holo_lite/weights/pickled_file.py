"""A pickled checkpoint, which must be a plain dict of tensors."""

from __future__ import annotations

import hashlib
import json
import mmap
import pickle
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import torch

from holo_lite.errors import CheckpointError
from holo_lite.reading.files import open_ordinary
from holo_lite.weights.calls import read_rows
from holo_lite.weights.pickle_shape import LARGEST, check_pickle
from holo_lite.weights.weight_file import EVERYTHING, TensorEntry

LOCAL_HEADER = 30  # bytes of a record's header in a zip archive, before its name
NOT_A_DICT = "is not a plain dict of tensors, so it is not opened"
DAMAGED_PICKLE = (  # what PyTorch's unpickler raises on bytes it cannot make sense of
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True)
class _Stored:
    """How a tensor lies in the file: it begins at the entry's offset, and its numbers lie so many apart."""

    entry: TensorEntry
    stride: tuple[int, ...]
    is_contiguous: bool

    def part(self, rows: slice) -> _Stored:
        """Rows of it."""
        start, stop, _ = rows.indices(self.entry.shape[0])
        offset = self.entry.offset + start * self.stride[0] * self.entry.dtype.itemsize
        shape = (max(0, stop - start), *self.entry.shape[1:])
        return replace(self, entry=TensorEntry(shape, self.entry.dtype, offset))

    def read(self, path: Path) -> torch.Tensor:
        """Read it: all bytes from its first number to its last."""
        shape, dtype, offset = self.entry.shape, self.entry.dtype, self.entry.offset
        if 0 in shape:
            return torch.empty(shape, dtype=dtype)
        span = 1 + sum((size - 1) * step for size, step in zip(shape, self.stride, strict=True))
        return read_rows(path, TensorEntry((span,), dtype, offset)).as_strided(shape, self.stride)


class PickledFile:
    """A ``.pth`` that must hold a plain dict of tensors; no code in it is ever run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive = _read_archive(path)
        self._tensors = _locate(path, _load_pickle(path), self._archive.records)

    @cached_property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Shape and dtype of every tensor."""
        return {name: TensorEntry(t.entry.shape, t.entry.dtype) for name, t in self._tensors.items()}

    @property
    def fingerprint(self) -> str:
        """The archive's own table, which holds a checksum of every tensor."""
        return self._archive.fingerprint

    def place(self, name: str) -> tuple[Path, int]:
        """The file, and the byte at which a tensor begins. Raises `CheckpointError` if it lies in no one piece."""
        if not self._tensors[name].is_contiguous:
            raise CheckpointError(
                f"{self.path}: {name} cannot be read in place; convert it with holo-lite quantize"
            )
        return self.path, self._tensors[name].entry.offset

    def load(self, name: str, rows: slice = EVERYTHING) -> torch.Tensor:
        """Read one tensor, or rows of it."""
        stored = self._tensors[name]
        return (stored if rows == EVERYTHING else stored.part(rows)).read(self.path)


@dataclass(frozen=True)
class _Archive:
    """What the zip archive says: a hash of its table, and the length of every record by the byte it begins at."""

    fingerprint: str
    records: Mapping[int, int]


def _read_archive(path: Path) -> _Archive:
    """Read the archive's table, and see that its pickle may be unpickled."""
    with _opening(path), open_ordinary(path) as file, ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != ZIP_STORED for entry in entries):
            raise CheckpointError(f"{path}: was compressed, so its numbers are not in it; download it again")
        check_pickle(_pickle(archive))
        table = [(entry.filename, entry.file_size, entry.CRC) for entry in entries]
        data = [entry for entry in entries if "/data/" in entry.filename and entry.file_size]
        records = {_data_offset(file, entry): entry.file_size for entry in data}
    return _Archive(hashlib.sha256(json.dumps(table).encode()).hexdigest(), records)


def _locate(path: Path, tensors: Mapping[str, torch.Tensor], records: Mapping[int, int]) -> Mapping[str, _Stored]:
    """Find where tensors lie in the file. PyTorch maps it as one run of bytes, which are not touched.

    So it begins in memory at the one address from which every storage is as far as a record of its size is in the
    file.
    """
    storages = [tensor.untyped_storage() for tensor in tensors.values()]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages if storage.nbytes()}
    first = min(sizes, default=0)
    begins = {first - offset for offset in records} if sizes else {0}
    fitting = [
        begin
        for begin in begins
        if begin % mmap.PAGESIZE == 0 and all(records.get(a - begin, -1) >= size for a, size in sizes.items())
    ]
    if len(fitting) != 1:
        raise CheckpointError(f"{path}: its tensors do not lie where its table says; download it again")
    return {name: _stored(tensor, fitting[0]) for name, tensor in tensors.items()}


def _stored(tensor: torch.Tensor, begin: int) -> _Stored:
    offset = tensor.untyped_storage().data_ptr() - begin + int(tensor.storage_offset()) * tensor.element_size()
    entry = TensorEntry(tuple(tensor.shape), tensor.dtype, offset)
    return _Stored(entry, tensor.stride(), tensor.is_contiguous())


def _data_offset(file: BinaryIO, entry: ZipInfo) -> int:
    """Where a stored record's data begins: behind its local header, whose last fields are two lengths."""
    file.seek(entry.header_offset + LOCAL_HEADER - 4)
    name, extra = struct.unpack("<HH", file.read(4))
    return int(entry.header_offset + LOCAL_HEADER + name + extra)


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """What goes wrong with a file becomes a `CheckpointError`."""
    try:
        yield
    except BadZipFile as error:
        raise CheckpointError(f"{path}: is cut short or not a PyTorch file; download it again") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except DAMAGED_PICKLE as error:
        small = "unable to mmap" in str(error)
        reason = "cannot be opened: it is larger than this computer's memory" if small else NOT_A_DICT
        raise CheckpointError(f"{path}: {reason}") from error


def _load_pickle(path: Path) -> dict[str, torch.Tensor]:
    """Tensors without their numbers: they are mapped, and nobody touches them.

    ``weights_only`` refuses everything that could run code.
    """
    with _opening(path):
        loaded = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: {NOT_A_DICT}")
    for name, value in dict(loaded).items():
        if not (isinstance(name, str) and name.isprintable() and _is_plain(value)):
            raise CheckpointError(f"{path}: {NOT_A_DICT}: see {name!a:.80}")
    return loaded


def _pickle(archive: ZipFile) -> bytes:
    """The one pickle of an archive. Raises `ValueError` for an archive whose table names something twice."""
    names = archive.namelist()
    found = [name for name in names if name.endswith("/data.pkl")]
    if len(found) != 1 or len(set(names)) < len(names) or archive.getinfo(found[0]).file_size > LARGEST:
        raise ValueError("has not one pickle of a model's size")
    return archive.read(found[0])


def _is_plain(value: object) -> bool:
    """Whether this is a tensor whose numbers are in the file unchanged."""
    return (
        isinstance(value, torch.Tensor)
        and not value.is_nested
        and not value.is_quantized
        and not value.is_neg()
        and not value.is_conj()
        and value.layout == torch.strided
        and value.device.type == "cpu"
    )
