"""What a card computes by kernels of this project: here plain functions that count as one launch each.

The kernels cannot run without a card, and the plain functions that stand for them elsewhere are many operations.
Each stand-in makes its result and is charged as its kernel would be: every tensor given is read once, every tensor
made is written once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.count.tally import Tally
from holo_lite.eightbit.rows import Format, Rows
from holo_lite.model.compute import Ops
from holo_lite.schemes import scheme


def fused(tally: Tally) -> Ops:
    """The fused operations: one pass each, and `gated_add_` in place."""
    return Ops(
        modulate=tally.charged("modulate", _like),
        norm=tally.charged("norm", _like),
        norm_turn=tally.charged("norm_turn", _turned),
        gated_add_=tally.charged("gated_add_", _like_itself, allocates=False),
    )


def _like(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _turned(x: Tensor, *given: Any) -> Tensor:
    return torch.empty_like(x).view(len(x), given[-1], -1)


def _like_itself(x: Tensor, *_: Any) -> Tensor:
    return x


@contextmanager
def eight_bits(tally: Tally) -> Iterator[None]:
    """Quantizing and multiplying as on a card, and weights made ready in a card's slices."""

    def quantize_(numbers: Tensor, _: Format, codes: Tensor, scale: Tensor) -> None:
        tally.dispatches += 1
        tally.charge("quantize", [numbers], [codes, scale])

    def multiply(x: Rows, weight: Rows, bias: Tensor | None) -> Tensor:
        out = x.codes.new_empty(len(x.codes), len(weight.codes), dtype=x.dtype)
        given = [x.codes, x.scale, weight.codes, weight.scale, *([] if bias is None else [bias])]
        work = 2 * out.numel() * x.codes.shape[1]
        tally.dispatches += 1
        tally.charge("multiply in 8 bits", given, [out], kind="product", operations=work)
        return out

    with ExitStack() as stack:
        stack.enter_context(mock.patch("holo_lite.eightbit.coding.quantize_plainly_", quantize_))
        stack.enter_context(mock.patch("holo_lite.eightbit.product.reference", multiply))
        stack.enter_context(mock.patch.object(scheme.Scheme, "_slices", _slices_of_a_card))
        yield


def _slices_of_a_card(self: scheme.Scheme, shape: tuple[int, int], _: torch.device) -> Iterator[slice]:
    step = max(1, scheme.CUDA_SLICES * self.slice_elements // shape[1])
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))
