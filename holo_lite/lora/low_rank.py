"""The product of two thin matrices, added to a weight whenever it is about to be multiplied.

A weight of 5120×5120 has 26 million numbers, an adapter of rank 64 for it 0.7. So the factors stay in main memory,
are copied for each use, and their product is never whole beside the weight: the matrix library adds it as it goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """scale · up @ down. up: (out, r); down: (r, in); both on the host, in the computing dtype."""

    up: Tensor
    down: Tensor
    scale: float

    def added_to(self, weight: Tensor, *, fresh: bool) -> Tensor:
        """The weight (out, in), on its own device, with the product added and rounded once.

        In place if the weight is `fresh`, nobody else's, else made anew.
        """
        up, down = (_brought(factor, weight) for factor in (self.up, self.down))
        add = torch.Tensor.addmm_ if fresh else torch.addmm
        added: Tensor = add(weight, up, down, alpha=self.scale)
        return added


def _brought(factor: Tensor, weight: Tensor) -> Tensor:
    """A factor beside a weight and in its dtype: cast there, since what the host casts is pinned no more."""
    return factor.to(weight.device, non_blocking=True).to(weight.dtype)
