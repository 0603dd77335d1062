"""Weights onto a module that was built without memory.

Modules are built on the meta device and their tensors replaced by those of a file. On the CPU, in the
file's own dtype, that copies nothing: the module works on the mapped file.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from holo_lite.errors import CheckpointError, first_three
from holo_lite.weights.header import TensorEntry
from holo_lite.weights.weight_file import WeightFile


def module_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of everything a file must hold for this module."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def check(module: nn.Module, file: WeightFile, renames: Mapping[str, str], *, what: str) -> None:
    """Compare a file with what a module expects, by name, shape and kind of number alone.

    Parameters may be of any float dtype; buffers, which are parts of packed weights, must be of their own.
    `renames` maps names in the file to names in the module. Raises `CheckpointError`, naming the first
    three, for tensors that are missing, superfluous, or of another shape or kind.
    """
    expected = module.state_dict()
    found = {renames.get(name, name): entry for name, entry in file.entries.items()}
    if missing := expected.keys() - found.keys():
        raise CheckpointError(f"{file.path}: is not {what}: it lacks {first_three(missing)}")
    if extra := found.keys() - expected.keys():
        raise CheckpointError(f"{file.path}: is not {what}: it holds the unknown {first_three(extra)}")
    buffers = {name for name, _ in module.named_buffers()}
    wrong = [
        f"{name} {fault}"
        for name, tensor in expected.items()
        if (fault := _fault(found[name], tensor, exact=name in buffers))
    ]
    if wrong:
        raise CheckpointError(f"{file.path}: is not {what}: {first_three(wrong)}")


def _fault(entry: TensorEntry, expected: torch.Tensor, *, exact: bool) -> str | None:
    """What is wrong with a tensor in a file, or None."""
    if entry.shape != tuple(expected.shape):
        return f"is {list(entry.shape)}, not {list(expected.shape)}"
    dtype = str(entry.dtype).removeprefix("torch.")
    if exact and entry.dtype != expected.dtype:
        return f"holds {dtype}, not {str(expected.dtype).removeprefix('torch.')}"
    if not exact and not entry.dtype.is_floating_point:
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
    file to names in the module; names it lacks stand for themselves. Raises `CheckpointError` as `check`
    does, before any tensor is read.
    """
    check(module, file, renames, what=what)
    parameters = dict(module.named_parameters())
    tensors = {}
    for name in file.entries:
        own = renames.get(name, name)
        tensors[own] = file.load(name).to(device=device, dtype=dtype if own in parameters else None)
    module.load_state_dict(tensors, strict=True, assign=True)
    module.requires_grad_(False)
