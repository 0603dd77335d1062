"""What a conversion will read and write, tensor by tensor, before any of it is read.

Sizes follow from shapes, so the plan knows every byte of every file to come: that is the preflight, and the
reason a converted model's layout never depends on its numbers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from holo_lite.schemes.registry import find
from holo_lite.weights.manifest import PLAIN
from holo_lite.weights.names import LINEARS
from holo_lite.weights.shard import TensorSpec, lay_out
from quantize.recipe import Recipe
from quantize.source import Source

BLOCK = re.compile(r"^(?:encoder\.)?blocks?\.(\d+)\.")


@dataclass(frozen=True)
class TensorPlan:
    """A tensor to convert: its scheme, its shape, its dtype in the source, and the parts it becomes."""

    name: str
    scheme: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    parts: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class ShardPlan:
    """A file to write: one block, or what belongs to none."""

    file: str
    block: int | None
    tensors: tuple[TensorPlan, ...]

    @property
    def specs(self) -> list[TensorSpec]:
        """Everything stored in it, in order."""
        return [part for tensor in self.tensors for part in tensor.parts]

    @property
    def nbytes(self) -> int:
        """The file's size."""
        return lay_out(self.specs).nbytes


@dataclass(frozen=True)
class ComponentPlan:
    """A network to convert."""

    role: str
    source: Source
    config: Mapping[str, Any]
    shards: tuple[ShardPlan, ...]

    @property
    def nbytes(self) -> int:
        """Bytes to write."""
        return sum(shard.nbytes for shard in self.shards)


@dataclass(frozen=True)
class Inputs:
    """What a component is made from: its source, its sizes, and the order of its tensors in the module."""

    source: Source
    config: Mapping[str, Any]
    order: tuple[str, ...]
    plain_dtype: torch.dtype | None = torch.bfloat16  # of tensors stored unchanged; None: the source's own
    single_file: str | None = None  # put everything in one file of this name


def plan_component(role: str, inputs: Inputs, recipe: Recipe) -> ComponentPlan:
    """Lay out a component: a shard with what belongs to no block, then one a block, in order."""
    tensors = [_tensor(role, name, inputs, recipe) for name in inputs.order]
    if inputs.single_file:
        shards = [ShardPlan(f"{role}/{inputs.single_file}", None, tuple(tensors))]
    else:
        shards = list(_shards(role, tensors))
    return ComponentPlan(role, inputs.source, inputs.config, tuple(shards))


def _shards(role: str, tensors: Iterable[TensorPlan]) -> Iterator[ShardPlan]:
    groups: dict[int | None, list[TensorPlan]] = {None: []}
    for tensor in tensors:
        match = BLOCK.match(tensor.name)
        groups.setdefault(int(match[1]) if match else None, []).append(tensor)
    for block, members in groups.items():
        name = "rest" if block is None else f"block-{block:02}"
        yield ShardPlan(f"{role}/{name}.safetensors", block, tuple(members))


def _tensor(role: str, name: str, inputs: Inputs, recipe: Recipe) -> TensorPlan:
    entry = inputs.source.entries[name]
    scheme = _scheme(role, name, entry.shape, recipe) if inputs.plain_dtype is not None else PLAIN
    if scheme == PLAIN:
        parts: tuple[TensorSpec, ...] = (TensorSpec(name, entry.shape, inputs.plain_dtype or entry.dtype),)
    else:
        rows, columns = entry.shape
        stored = find(scheme).parts((rows, columns))
        parts = tuple(TensorSpec(f"{name}.{part}", spec.shape, spec.dtype) for part, spec in stored.items())
    return TensorPlan(name, scheme, entry.shape, entry.dtype, parts)


def _scheme(role: str, name: str, shape: tuple[int, ...], recipe: Recipe) -> str:
    """The recipe's scheme for a block's linear layer that it can hold; plain for anything else."""
    if not LINEARS.fullmatch(name):
        return PLAIN
    scheme = recipe.scheme_for(role, name)
    rows, columns = shape
    if scheme == "bf16" or find(scheme).fits((rows, columns)) is not None:
        return PLAIN
    return scheme


def plan_fingerprint(components: Iterable[ComponentPlan], facts: Any) -> str:
    """A hash of everything that decides the bytes to come: sources, schemes, order, and what `facts` adds."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for component in components:
        digest.update(json.dumps([component.source.fingerprint, component.config]).encode())
        for shard in component.shards:
            rows = [[t.name, t.scheme, t.shape, str(t.dtype)] for t in shard.tensors]
            digest.update(json.dumps([shard.file, rows]).encode())
    return digest.hexdigest()
