"""A linear layer ready for a visit: a function of its input, in one of the ways in which matrices are multiplied.

`prepare` and `apply` are apart for two reasons: layers of one kind that read one input share the prepared one,
and in 8 bits the input itself can go before the product is made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from holo_lite.eightbit.coding import quantize
from holo_lite.eightbit.product import multiply
from holo_lite.eightbit.rows import Rows

LinearInput = Tensor | Rows


class Affine(ABC):
    """y = x Wᵀ + b."""

    @abstractmethod
    def prepare(self, x: Tensor) -> LinearInput:
        """x (n, in) as the product takes it."""

    @abstractmethod
    def apply(self, prepared: LinearInput) -> Tensor:
        """An input that a layer of this kind has prepared → (n, out), in the dtype of x."""

    def __call__(self, x: Tensor) -> Tensor:
        """x: (n, in) → (n, out)."""
        return self.apply(self.prepare(x))


@dataclass(frozen=True)
class PlainAffine(Affine):
    """With plain tensors. weight: (out, in); bias: (out,) or None."""

    weight: Tensor
    bias: Tensor | None

    def prepare(self, x: Tensor) -> Tensor:
        """x itself."""
        return x

    def apply(self, prepared: LinearInput) -> Tensor:
        """(n, in) → (n, out)."""
        assert isinstance(prepared, Tensor), "prepared for a layer of another kind"
        return F.linear(prepared, self.weight, self.bias)


@dataclass(frozen=True)
class CodedAffine(Affine):
    """In 8 bits. weight: rows (out, in); bias: (out,) or None."""

    weight: Rows
    bias: Tensor | None

    def prepare(self, x: Tensor) -> Rows:
        """x in 8 bits, each row with a scale of its own."""
        return quantize(x, self.weight.format)

    def apply(self, prepared: LinearInput) -> Tensor:
        """(n, in) → (n, out)."""
        assert isinstance(prepared, Rows), "prepared for a layer of another kind"
        return multiply(prepared, self.weight, self.bias)
