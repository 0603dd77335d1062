"""Weights onto a module that was built without memory.

Modules are built on the meta device and their tensors replaced by those of a file. On the CPU, in the
file's own dtype, that copies nothing: the module works on the mapped file.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from holo_lite.errors import CheckpointError, first_three
from holo_lite.weights.files import WeightFile

Shapes = Mapping[str, tuple[int, ...]]


def module_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of everything a file must hold for this module."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def check(expected: Shapes, file: WeightFile, renames: Mapping[str, str], *, what: str) -> None:
    """Compare a file with what a module expects, by name and shape alone.

    `renames` maps names in the file to names in the module. Raises `CheckpointError`, naming the first
    three, for tensors that are missing, superfluous or of another shape.
    """
    found = {renames.get(name, name): entry.shape for name, entry in file.entries.items()}
    if missing := expected.keys() - found.keys():
        raise CheckpointError(f"{file.path}: is not {what}: it lacks {first_three(missing)}")
    if extra := found.keys() - expected.keys():
        raise CheckpointError(f"{file.path}: is not {what}: it holds the unknown {first_three(extra)}")
    wrong = [
        f"{name} is {list(found[name])}, not {list(shape)}"
        for name, shape in expected.items()
        if found[name] != shape
    ]
    if wrong:
        raise CheckpointError(f"{file.path}: is not {what}: {first_three(wrong)}")


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

    `renames` maps names in the file to names in the module; names it lacks stand for themselves.
    Raises `CheckpointError` as `check` does, before any tensor is read.
    """
    check(module_shapes(module), file, renames, what=what)
    tensors = {renames.get(name, name): file.load(name).to(device=device, dtype=dtype) for name in file.entries}
    module.load_state_dict(tensors, strict=True, assign=True)
    module.requires_grad_(False)
