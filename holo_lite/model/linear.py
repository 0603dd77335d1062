"""A linear layer that is made ready once per visit.

A block is visited once per denoising step, and within the visit its weights meet the tokens in many chunks.
Whatever must be done to a stored weight before it can be multiplied is done by `ready`, once, and lives as long
as the caller holds what it returns: nothing for a plain weight, unpacking for one stored under a scheme.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from holo_lite.model.compute import LinearMode
from holo_lite.schemes.registry import find


@dataclass(frozen=True)
class Affine:
    """y = x Wᵀ + b with plain tensors. weight: (out, in); bias: (out,) or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """x: (n, in) → (n, out)."""
        return F.linear(x, self.weight, self.bias)


class Stored(nn.Module, ABC):
    """A weight (out, in) that must be made before it can be multiplied."""

    @abstractmethod
    def unpack(self, dtype: torch.dtype) -> Tensor:
        """The weight in `dtype`, made anew."""


class Packed(Stored):
    """A weight (out, in) as the parts its scheme stores it in, each a buffer."""

    def __init__(self, scheme: str, shape: tuple[int, int]) -> None:
        super().__init__()
        self.scheme, self.shape = scheme, shape
        for name, part in find(scheme).parts(shape).items():
            self.register_buffer(name, torch.empty(part.shape, dtype=part.dtype))

    def unpack(self, dtype: torch.dtype) -> Tensor:
        """The weight in `dtype`, made anew."""
        return find(self.scheme).unpack(dict(self.named_buffers()), self.shape, dtype)


class Linear(nn.Module):
    """A linear layer whose weight is a plain parameter in the compute dtype, or stored otherwise."""

    weight: nn.Parameter | Stored

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def ready(self, dtype: torch.dtype | None = None, mode: LinearMode = "plain") -> Affine:
        """Give the layer as a function of its input, valid for this visit; a stored weight in `dtype`."""
        assert mode == "plain", mode
        if isinstance(self.weight, Stored):
            compute = dtype or (self.bias.dtype if self.bias is not None else torch.get_default_dtype())
            return Affine(self.weight.unpack(compute), self.bias)
        return Affine(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer once. x: (n, in) → (n, out)."""
        return self.ready(x.dtype)(x)


def pack_linears(module: nn.Module, schemes: Mapping[str, str]) -> None:
    """Make the named weights (``blocks.0.ffn.0.weight`` → ``nf4``) of a module on the meta device packed ones.

    A name that is no linear layer's here, or of a shape the scheme cannot hold, is passed over: who compares the
    module with a file will find the parts superfluous.
    """
    modules = dict(module.named_modules())
    for name, scheme in schemes.items():
        owner = name.removesuffix(".weight")
        linear = modules.get(owner)
        if not isinstance(linear, Linear | nn.Linear) or owner == name:
            continue
        weight: Any = linear.weight
        outputs, inputs = weight.shape
        if find(scheme).fits((outputs, inputs)) is not None:
            continue
        packed = Linear(inputs, outputs, bias=linear.bias is not None)
        del packed.weight
        packed.weight = Packed(scheme, (outputs, inputs))
        parent, _, child = owner.rpartition(".")
        setattr(module.get_submodule(parent), child, packed)
