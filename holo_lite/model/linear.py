"""A linear layer that is made ready once per visit.

A block is visited once per denoising step, and within the visit its weights meet the tokens in many
chunks. Whatever must be done to a stored weight before it can be multiplied (nothing, here; dequantizing,
for a compressed model) is done by `ready`, once, and lives as long as the caller holds what it returns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Affine:
    """y = x Wᵀ + b with plain tensors. weight: (out, in); bias: (out,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x: (n, in) → (n, out)."""
        return F.linear(x, self.weight, self.bias)


class Linear(nn.Module):
    """Parameters of a linear layer in the compute dtype."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def ready(self) -> Affine:
        """Give the layer as a function of its input, valid for this visit."""
        return Affine(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer once. x: (n, in) → (n, out)."""
        return self.ready()(x)
