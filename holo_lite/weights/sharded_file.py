"""Safetensors shards behind an index."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch

from holo_lite.errors import CheckpointError, first_three
from holo_lite.reading.files import read_text
from holo_lite.reading.trees import parse_json
from holo_lite.weights.safetensors_file import SafetensorsFile
from holo_lite.weights.weight_file import EVERYTHING, TensorEntry


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

    @property
    def shard_paths(self) -> tuple[Path, ...]:
        """The files with the data, by name."""
        return tuple(shard.path for shard in self._shards.values())

    @cached_property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Shape, dtype and place (within its shard) of every tensor."""
        return {name: shard.entries[name] for name, shard in self._home.items()}

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprints of all shards."""
        joined = "".join(shard.fingerprint for shard in self._shards.values())
        return hashlib.sha256(joined.encode()).hexdigest()

    def place(self, name: str) -> tuple[Path, int]:
        """The shard a tensor is in, and the byte at which it begins."""
        return self._home[name].place(name)

    def load(self, name: str, rows: slice = EVERYTHING) -> torch.Tensor:
        """Read one tensor, or rows of it, from the shard that holds it."""
        return self._home[name].load(name, rows)


def _read_index(path: Path) -> dict[str, str]:
    try:
        weight_map = parse_json(read_text(path))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: is not a shard index with a weight_map ({error}); download it again"
        ) from error
    if not isinstance(weight_map, dict) or not all(name.isprintable() for name in weight_map):
        raise CheckpointError(f"{path}: its weight_map is damaged; download it again")
    for shard in weight_map.values():
        if not _is_file_name(shard):
            raise CheckpointError(f"{path}: names the shard {shard!a:.80}, which is not a file next to it")
    return weight_map


def _is_file_name(shard: object) -> bool:
    """Whether an index may send us there: the name of a file in its own folder, and nothing else."""
    return (
        isinstance(shard, str)
        and shard.isprintable()
        and not set(shard) & set("/\\:")
        and Path(shard).suffix == ".safetensors"
    )
