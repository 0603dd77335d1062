"""Muon (Jordan et al. 2024): momentum whose every matrix is made nearly orthogonal before it is used.

torch has one for matrices; this one also takes convolutions, as matrices (out, in · kernel).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

A, B, C = 3.4445, -4.7750, 2.0315  # the quintic that drives all singular values towards one
ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Follows the orthogonalised momentum of weights of two or more axes."""

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group["lr"], group["momentum"])

    def _move(self, weight: nn.Parameter, lr: float, momentum: float) -> None:
        kept = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        kept.mul_(momentum).add_(weight.grad)
        matrix = (weight.grad + momentum * kept).flatten(1)
        stretch = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        weight.add_(orthogonal(matrix).view_as(weight), alpha=-lr * stretch)


def orthogonal(matrix: Tensor) -> Tensor:
    """Roughly the nearest matrix with orthogonal rows or columns, by Newton-Schulz. (m, n) → (m, n)."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (torch.linalg.matrix_norm(x) + 1e-7)).bfloat16()  # a rough answer is good enough
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = A * x + (B * gram + C * gram @ gram) @ x
    result: Tensor = (x.T if tall else x).to(matrix.dtype)
    return result


def optimizers(module: nn.Module, muon: float, adam: float, apart: tuple[str, ...]) -> dict[str, Any]:
    """Muon for a module's inner matrices, Adam for all else and for weights with one of `apart` in their names."""
    inner: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in module.named_parameters():
        matrix = weight.squeeze().ndim > 1 and not any(part in name for part in apart)
        (inner if matrix else rest).append(weight)
    return {
        "muon": Muon(inner, muon),
        "adam": torch.optim.AdamW(rest, adam, betas=(0.9, 0.95), weight_decay=0.0),
    }
