"""Tensors in a file that can detect its own damage.

The file is safetensors, and its last tensor is the sha256 of everything before it, header included. It is
written under a temporary name, brought onto the disk and renamed, so a crash leaves the file before it or this one;
the seal finds what neither of them is, a disk's fault or another hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.errors import CheckpointError
from holo_lite.reading.files import open_ordinary
from holo_lite.runs.damage import damaged
from holo_lite.runs.folder_names import SEAL
from holo_lite.weights.safetensors_file import SafetensorsFile
from holo_lite.weights.shard import ShardWriter, TensorSpec
from holo_lite.weights.weight_file import TensorEntry

DIGEST = TensorEntry((32,), torch.uint8)


def write_sealed(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors, on any device and in any dtype, so that under its name the file is whole and on the disk.

    Raises `OutputError` when the disk is full or the place cannot be written; then the file that was stays.
    """
    specs = [TensorSpec(name, tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()]
    specs.append(TensorSpec(SEAL, DIGEST.shape, DIGEST.dtype))
    with ShardWriter(path, specs, metadata) as writer:
        for tensor in tensors.values():
            writer.add(tensor)
        writer.add(torch.frombuffer(bytearray.fromhex(writer.sha256), dtype=torch.uint8))


def read_sealed(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Read the tensors of a sealed file, on the CPU, and its metadata. Raises `RunError` if the seal is broken."""
    try:
        file, content = SafetensorsFile(path), _read(path)
    except (CheckpointError, OSError) as error:
        raise damaged(path) from error
    if not _is_sealed(file.entries.get(SEAL), content):
        raise damaged(path)
    return {
        name: torch.frombuffer(content, dtype=entry.dtype, count=_count(entry), offset=entry.offset).view(
            entry.shape
        )
        for name, entry in file.entries.items()
        if name != SEAL
    }, file.metadata


def _read(path: Path) -> bytearray:
    """The whole file, in memory that tensors may be views of."""
    content = bytearray(path.stat().st_size)
    with open_ordinary(path) as file:
        file.readinto(content)
    return content


def _is_sealed(seal: TensorEntry | None, content: bytearray) -> bool:
    if seal is None or (seal.shape, seal.dtype) != (DIGEST.shape, DIGEST.dtype):
        return False
    end = seal.offset + seal.nbytes
    found = hashlib.sha256(memoryview(content)[: seal.offset]).digest()
    return content[seal.offset : end] == found and not any(content[end:])


def _count(entry: TensorEntry) -> int:
    return entry.nbytes // entry.dtype.itemsize
