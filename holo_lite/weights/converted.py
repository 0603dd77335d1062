"""A component of a converted model, opened like any other file of weights.

A tensor stored under a scheme appears as its parts (``NAME.codes``, ``NAME.scale``); `packed` says which these
are. Shards are opened when the first tensor in them is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch

from holo_lite.errors import CheckpointError
from holo_lite.schemes.registry import SCHEMES
from holo_lite.weights.manifest import PLAIN, Component, StoredTensor, check_shards, read_manifest
from holo_lite.weights.safetensors_file import SafetensorsFile
from holo_lite.weights.weight_file import EVERYTHING, TensorEntry, WeightFile


class ConvertedFile:
    """One component: ``MODEL/high_noise``, ``MODEL/low_noise`` or ``MODEL/text_encoder``.

    Raises `CheckpointError` for a damaged manifest, for schemes not known here, and for shards that are missing
    or of another size.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.component = self._find(path)
        self._check_schemes()
        check_shards(path.parent, self.component)

    @staticmethod
    def _find(path: Path) -> Component:
        component = read_manifest(path.parent).components.get(path.name)
        if component is None:
            raise CheckpointError(f"{path}: the model's manifest does not list {path.name}")
        return component

    def _check_schemes(self) -> None:
        for name, stored in self.packed.items():
            if stored.scheme not in SCHEMES:
                raise CheckpointError(
                    f"{self.path}: {name} is stored under the unknown scheme {stored.scheme!a:.40}; "
                    "update holo-lite, or convert the model again"
                )

    @cached_property
    def packed(self) -> Mapping[str, StoredTensor]:
        """Tensors that are stored under a scheme, by the model's names."""
        return {name: stored for name, stored in self.component.tensors.items() if stored.scheme != PLAIN}

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor as the model knows it."""
        return {name: stored.shape for name, stored in self.component.tensors.items()}

    @property
    def shard_paths(self) -> list[Path]:
        """The files the component lies in."""
        return [self.path.parent / shard.file for shard in self.component.shards]

    @cached_property
    def _homes(self) -> Mapping[str, SafetensorsFile]:
        files = [SafetensorsFile(path) for path in self.shard_paths]
        return {name: file for file in files for name in file.entries}

    @cached_property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Shape and dtype of everything stored: plain tensors, and the parts of packed ones."""
        return {name: file.entries[name] for name, file in self._homes.items()}

    @cached_property
    def fingerprint(self) -> str:
        """The hashes of all shards."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.component.shards).encode()).hexdigest()

    def place(self, name: str) -> tuple[Path, int]:
        """The shard a stored tensor is in, and the byte at which it begins."""
        return self._homes[name].place(name)

    def load(self, name: str, rows: slice = EVERYTHING) -> torch.Tensor:
        """Read one stored tensor, or rows of it."""
        return self._homes[name].load(name, rows)


def packed_schemes(file: WeightFile) -> dict[str, str]:
    """The schemes of a file's packed tensors: none, unless it is part of a converted model."""
    return {name: t.scheme for name, t in file.packed.items()} if isinstance(file, ConvertedFile) else {}


def stored_shapes(file: WeightFile) -> Mapping[str, tuple[int, ...]]:
    """Shapes as the model knows them, whatever the tensors are stored as."""
    if isinstance(file, ConvertedFile):
        return file.shapes
    return {name: entry.shape for name, entry in file.entries.items()}
