"""One way to look into every kind of weight file, without loading it.

A checkpoint arrives as one safetensors file, as shards with an index, or as a pickled ``.pth``. All three
open as a `WeightFile`: names, shapes and dtypes at once, tensors one by one, mapped from the file and not
copied. Whatever is wrong with a file is found here, before anything is allocated.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile, ZipFile

import torch
from safetensors import safe_open

from holo_lite.errors import CheckpointError, first_three
from holo_lite.weights.header import Header, TensorEntry, read_header

SAMPLES = 16  # places at which a safetensors file's data is sampled for its fingerprint
SAMPLE_BYTES = 65_536


class WeightFile(Protocol):
    """Named tensors in a file; nothing is read before `load`."""

    @property
    def path(self) -> Path:
        """The file, or the index of its shards."""

    @property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Shape and dtype of every tensor, by name."""

    @property
    def fingerprint(self) -> str:
        """A hash of the content that costs no full read."""

    def load(self, name: str) -> torch.Tensor:
        """Map one tensor on the CPU, in the dtype of the file."""


class SafetensorsFile:
    """One safetensors file, its header checked against its length."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header: Header = read_header(path)
        self._open: Any = safe_open(path, framework="pt", device="cpu")

    @property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Shape, dtype and place of every tensor."""
        return self._header.entries

    @cached_property
    def fingerprint(self) -> str:
        """The header and sixteen samples of the data."""
        digest = hashlib.sha256(self._header.sha256.encode())
        for sample in _samples(self.path):
            digest.update(sample)
        return digest.hexdigest()

    def load(self, name: str) -> torch.Tensor:
        """Map one tensor: pages are read when they are first touched."""
        tensor: torch.Tensor = self._open.get_tensor(name)
        return tensor


class PickledFile:
    """A ``.pth`` that must hold a plain dict of tensors; no code in it is ever run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors = _load_pickle(path)

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

    def load(self, name: str) -> torch.Tensor:
        """Give one tensor, still mapped from the file."""
        return self._tensors[name]


class ShardedFile:
    """Safetensors shards behind one ``*.safetensors.index.json``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        weight_map = _read_index(path)
        shards = sorted(set(weight_map.values()))
        self._shards = {name: SafetensorsFile(path.parent / name) for name in shards}
        self._home = {name: self._shards[shard] for name, shard in weight_map.items()}
        lost = [name for name, shard in self._home.items() if name not in shard.entries]
        if lost:
            raise CheckpointError(f"{path}: names tensors its shards do not hold: {first_three(lost)}")

    @cached_property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Shape, dtype and place (within its shard) of every tensor."""
        return {name: shard.entries[name] for name, shard in self._home.items()}

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprints of all shards."""
        joined = "".join(shard.fingerprint for shard in self._shards.values())
        return hashlib.sha256(joined.encode()).hexdigest()

    def load(self, name: str) -> torch.Tensor:
        """Map one tensor from the shard that holds it."""
        return self._home[name].load(name)


def open_weights(path: Path) -> WeightFile:
    """Open a file of weights by its kind.

    Raises `CheckpointError` for a missing, damaged or unknown file, and for a pickle that holds anything
    but tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; check the model folder")
    if path.name.endswith(".index.json"):
        return ShardedFile(path)
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    if path.suffix in {".pth", ".pt", ".bin"}:
        return PickledFile(path)
    raise CheckpointError(f"{path}: is no kind of weight file known here (.safetensors, .pth, .index.json)")


def _samples(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        for index in range(SAMPLES):
            file.seek(max(0, size - SAMPLE_BYTES) * index // (SAMPLES - 1))
            yield file.read(SAMPLE_BYTES)


def _read_index(path: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is not a shard index with a weight_map; download it again") from error
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(f"{path}: its weight_map is damaged; download it again")
    return weight_map


def _load_pickle(path: Path) -> dict[str, torch.Tensor]:
    """Map a pickle of tensors. ``weights_only`` refuses everything that could run code."""
    try:
        with ZipFile(path):
            loaded = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except BadZipFile as error:
        raise CheckpointError(f"{path}: is cut short or not a PyTorch file; download it again") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path}: is not a plain dict of tensors, so it is not opened") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path}: is not a plain dict of tensors, so it is not opened")
    return loaded
