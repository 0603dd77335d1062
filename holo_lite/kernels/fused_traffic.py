"""What a fused operation costs: launches and bytes, worked out from its arguments. Tensors on meta will do.

Rows lie in one piece, and every kernel of `fused_language` reads a row once and writes it once, so the bytes are
those of the numbers. A product is not counted here, nor what it reads and writes in any case: one with an epilogue
adds nothing but what that reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor

from holo_lite.eightbit.limits import coded
from holo_lite.eightbit.rows import FP8, Format, Rows
from holo_lite.model.operations import LinearInput, Norm
from holo_lite.model.positions import Positions


@dataclass(frozen=True)
class Traffic:
    """Kernels that are launched in addition to a product, and bytes they read and write."""

    launches: int
    read: int
    written: int


NOTHING = Traffic(0, 0, 0)


def _norm(
    x: Tensor, one: Tensor, other: Tensor, _eps: float, form: Format | None = None, _out: LinearInput | None = None
) -> Traffic:
    return Traffic(1, _bytes(x, one, other), _result(x, form))


def _in_place(x: Tensor, weight: Tensor, _eps: float) -> Traffic:
    return Traffic(1, _bytes(x, weight), _bytes(x))


def _turn(x: Tensor, weight: Tensor, _eps: float, positions: Positions, _tokens: slice) -> Traffic:
    return Traffic(1, _bytes(x, weight, *positions.cos, *positions.sin), _bytes(x))


def _sum(x: Tensor, update: Tensor, gate: Tensor | None) -> Traffic:
    return Traffic(1, _bytes(x, update, gate), _bytes(x))


def _unary(x: Tensor, form: Format | None) -> Traffic:
    return Traffic(1, _bytes(x), _result(x, form))


def _product(*_given: Any) -> Traffic:
    return NOTHING


def _product_sum(x: Tensor, rows: Rows, _weight: Rows, _bias: Tensor | None, gate: Tensor | None) -> Traffic:
    """In fp8 the product is taken to be PyTorch's, whose result is added in a pass of its own."""
    return _sum(x, x, gate) if rows.format == FP8 else Traffic(0, _bytes(x, gate), 0)


def _product_sum_norm(
    x: Tensor, rows: Rows, weight: Rows, bias: Tensor | None, gate: Tensor | None, norm: Norm, out: Rows
) -> Traffic:
    """Where the sum takes a pass of its own the norm is in it, else the norm takes one."""
    added = _product_sum(x, rows, weight, bias, gate)
    if added.launches:
        return Traffic(1, added.read + _bytes(norm.scale, norm.shift), added.written + coded(*out.codes.shape))
    normed = _norm(x, norm.scale, norm.shift, norm.eps, out.format)
    return Traffic(1, added.read + normed.read, normed.written)


TRAFFIC: Mapping[str, Callable[..., Traffic]] = MappingProxyType(
    {
        "modulate": _norm,
        "layer_norm": _norm,
        "norm_": _in_place,
        "norm_turn_": _turn,
        "gated_add_": _sum,
        "linear_gelu": _product,
        "gelu_": _unary,
        "quantize": _unary,
        "multiply": _product,
        "multiply_add_": _product_sum,
        "multiply_add_norm_": _product_sum_norm,
    }
)
"""The cost of a call of each operation of `holo_lite.model.operations.Ops`, by name, from the call's arguments."""


def _bytes(*tensors: Tensor | None) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)


def _result(x: Tensor, form: Format | None) -> int:
    return _bytes(x) if form is None else coded(*x.shape)
