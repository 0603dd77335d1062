"""The product of two thin matrices, added to a weight whenever it is about to be multiplied.

A weight of 5120×5120 has 26 million numbers, an adapter of rank 64 for it 0.7. So the factors stay in main memory,
are copied for each use, and their product never exists as a whole: the matrix library adds it directly.
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

        In place if the weight is `fresh` (not used elsewhere), otherwise into a copy.
        """
        up, down = (_brought(factor, weight) for factor in (self.up, self.down))
        add = torch.Tensor.addmm_ if fresh else torch.addmm
        added: Tensor = add(weight, up, down, alpha=self.scale)
        return added


def _brought(factor: Tensor, weight: Tensor) -> Tensor:
    """A factor on a weight's device and in its dtype: cast there, as what the host casts is not pinned."""
    return factor.to(weight.device, non_blocking=True).to(weight.dtype)
