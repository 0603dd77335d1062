"""A pickled checkpoint, which must be a plain dict of tensors."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import torch

from holo_lite.errors import CheckpointError
from holo_lite.reading.files import open_ordinary
from holo_lite.weights.header import TensorEntry
from holo_lite.weights.mapping import check_length
from holo_lite.weights.pickle_shape import LARGEST, check_pickle

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


class PickledFile:
    """A ``.pth`` that must hold a plain dict of tensors; no code in it is ever run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors = _load_pickle(path)
        self._length = path.stat().st_size

    @cached_property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Shape and dtype of every tensor."""
        return {name: TensorEntry(tuple(t.shape), t.dtype) for name, t in self._tensors.items()}

    @cached_property
    def fingerprint(self) -> str:
        """The archive's own table, which holds a checksum of every tensor."""
        with ZipFile(self.path) as archive:
            table = [(entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist()]
        return hashlib.sha256(json.dumps(table).encode()).hexdigest()

    @cached_property
    def _records(self) -> Mapping[int, int]:
        """Where each storage's bytes begin in the file, by their address in memory.

        PyTorch maps the archive as one run of bytes, so storages follow each other in memory as their records do in
        the file; the distances are compared, so that a mapping of any other kind is noticed.
        """
        storages = [tensor.untyped_storage() for tensor in self._tensors.values()]
        addresses = sorted({storage.data_ptr() for storage in storages if storage.nbytes()})
        with ZipFile(self.path) as archive, self.path.open("rb") as file:
            records = [entry for entry in archive.infolist() if "/data/" in entry.filename and entry.file_size]
            offsets = sorted(_data_offset(file, entry) for entry in records)
        same = len(addresses) == len(offsets) and len({a - o for a, o in zip(addresses, offsets, strict=True)}) <= 1
        return dict(zip(addresses, offsets, strict=True)) if same else {}

    def place(self, name: str) -> tuple[Path, int]:
        """The file, and the byte at which a tensor begins. Raises `CheckpointError` if it lies in no one piece."""
        tensor = self._tensors[name]
        record = self._records.get(tensor.untyped_storage().data_ptr())
        if record is None or not tensor.is_contiguous():
            raise CheckpointError(
                f"{self.path}: {name} cannot be read in place; convert it with holo-lite quantize"
            )
        return self.path, record + int(tensor.storage_offset()) * tensor.element_size()

    def load(self, name: str) -> torch.Tensor:
        """Give one tensor, still mapped from the file."""
        check_length(self.path, self._length)
        return self._tensors[name].detach()


def _data_offset(file: BinaryIO, entry: ZipInfo) -> int:
    """Where a stored record's data begins: behind its local header, whose last fields are two lengths."""
    file.seek(entry.header_offset + LOCAL_HEADER - 4)
    name, extra = struct.unpack("<HH", file.read(4))
    return int(entry.header_offset + LOCAL_HEADER + name + extra)


def _load_pickle(path: Path) -> dict[str, torch.Tensor]:
    """Map a pickle of tensors. ``weights_only`` refuses everything that could run code."""
    try:
        with open_ordinary(path) as file, ZipFile(file) as archive:
            if any(entry.compress_type != ZIP_STORED for entry in archive.infolist()):
                raise CheckpointError(f"{path}: was compressed, so it cannot be mapped; download it again")
            check_pickle(_pickle(archive))
        loaded = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except BadZipFile as error:
        raise CheckpointError(f"{path}: is cut short or not a PyTorch file; download it again") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except DAMAGED_PICKLE as error:
        small = "unable to mmap" in str(error)
        reason = "cannot be mapped: it is larger than this computer's memory" if small else NOT_A_DICT
        raise CheckpointError(f"{path}: {reason}") from error
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
        and value.layout == torch.strided
        and value.device.type == "cpu"
    )
