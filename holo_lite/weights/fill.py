"""Weights onto a module that was built without memory.

Modules are built on the meta device and their tensors replaced by those of a file, each read once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from holo_lite.errors import CheckpointError, first_three
from holo_lite.weights.weight_file import TensorEntry, WeightFile


def module_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of everything a file must hold for this module."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@dataclass(frozen=True)
class ExpectedTensor:
    """A tensor that a file must hold, in this dtype. None: in any of floating-point numbers."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None = None


def wanted_by(module: nn.Module) -> dict[str, ExpectedTensor]:
    """What a module needs: parameters in any float dtype, buffers, the parts of packed weights, in their own."""
    buffers = {name for name, _ in module.named_buffers()}
    return {
        name: ExpectedTensor(tuple(tensor.shape), tensor.dtype if name in buffers else None)
        for name, tensor in module.state_dict().items()
    }


def check(module: nn.Module, file: WeightFile, renames: Mapping[str, str], *, what: str) -> None:
    """Compare a file with what a module needs, as `compare`."""
    compare(wanted_by(module), file, renames, what=what)


def compare(
    wanted: Mapping[str, ExpectedTensor], file: WeightFile, renames: Mapping[str, str], *, what: str
) -> None:
    """Compare a file with what is wanted of it, by name, shape and kind of number alone.

    `renames` maps names in the file to those that are wanted. Raises `CheckpointError`, naming the first
    three, for tensors that are missing, superfluous, or of another shape or kind.
    """
    found = {renames.get(name, name): entry for name, entry in file.entries.items()}
    if missing := wanted.keys() - found.keys():
        raise CheckpointError(f"{file.path}: is not {what}: it lacks {first_three(missing)}")
    if extra := found.keys() - wanted.keys():
        raise CheckpointError(f"{file.path}: is not {what}: it holds the unknown {first_three(extra)}")
    wrong = [f"{name} {fault}" for name, tensor in wanted.items() if (fault := _fault(found[name], tensor))]
    if wrong:
        raise CheckpointError(f"{file.path}: is not {what}: {first_three(wrong)}")


def _fault(entry: TensorEntry, wanted: ExpectedTensor) -> str | None:
    """What is wrong with a tensor in a file, or None."""
    if entry.shape != wanted.shape:
        return f"is {list(entry.shape)}, not {list(wanted.shape)}"
    dtype = str(entry.dtype).removeprefix("torch.")
    if wanted.dtype is not None and entry.dtype != wanted.dtype:
        return f"holds {dtype}, not {str(wanted.dtype).removeprefix('torch.')}"
    if wanted.dtype is None and not entry.dtype.is_floating_point:
        return f"holds {dtype}, no floating-point numbers"
    return None


def fill(
    module: nn.Module,
    file: WeightFile,
    renames: Mapping[str, str],
    *,
    dtype: torch.dtype,
    device: torch.device,
    what: str,
) -> None:
    """Give a module on the meta device the tensors of a file, in `dtype` on `device`.

    Buffers, which are parts of packed weights, keep the dtype they are stored in. `renames` maps names in the
    file to names in the module; names it lacks stay the same. Raises `CheckpointError` as `check` does, before any
    tensor is read.
    """
    check(module, file, renames, what=what)
    parameters = dict(module.named_parameters())
    tensors = {}
    for name in file.entries:
        own = renames.get(name, name)
        tensors[own] = file.load(name).to(device=device, dtype=dtype if own in parameters else None)
    module.load_state_dict(tensors, strict=True, assign=True)
    module.requires_grad_(False)
