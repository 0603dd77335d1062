"""What a card computes by kernels of this project: here functions that make the result and are charged as one.

The kernels cannot run without a card, and the plain functions that replace them elsewhere are many operations. A
fused operation is charged what `holo_lite.kernels.fused_traffic` says of it, and its product, if it has one, as a
product. Quantizing and multiplying in 8 bits read every tensor given once and write every tensor made once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.count.tally import CARD, Tally
from holo_lite.eightbit.rows import FP8, Format, Rows
from holo_lite.kernels.fused_traffic import TRAFFIC
from holo_lite.model.operations import LinearInput, Norm, Ops
from holo_lite.schemes import scheme

TABLE = 256  # numbers that a byte may stand for


def fused(tally: Tally) -> Ops:
    """The fused operations, each charged what its kernel moves."""
    return Ops(**{field.name: _charged(tally, field.name) for field in fields(Ops)})


def _charged(tally: Tally, name: str) -> Callable[..., Any]:
    def counted(*given: Any) -> Any:
        traffic = TRAFFIC[name](*given)
        with tally.quiet():
            result = _MAKES[name](*given)
        tally.allocations += _new(given, result)
        if name in _PRODUCTS:
            place = _PRODUCTS[name]
            _charge_product(tally, name, *given[place : place + 3], made=result if name in _MAKING else None)
        if traffic.launches or traffic.read:
            tally.dispatches += traffic.launches
            tally.charge_bytes(name, traffic.read, traffic.written, count=traffic.launches)
        return result

    return counted


def _charge_product(
    tally: Tally,
    name: str,
    x: LinearInput,
    weight: LinearInput,
    bias: Tensor | None,
    made: LinearInput | None,
) -> None:
    """A product by itself. x: (n, in); weight: (out, in); bias: (out,); made: its result, (n, out).

    None for a sum: there the product lies beside what it is added to, always in fp8, and in int8 until the fastest
    tile is known. So it takes memory for a moment; in int8 that is not counted, for later there is none.
    """
    (rows, inputs), outputs = _numbers(x).shape, len(_numbers(weight))
    given = [part for each in (x, weight, bias) for part in _parts(each)]
    if made is None:
        with tally.quiet():
            made = _numbers(x).new_empty(rows, outputs, dtype=x.dtype)
        tally.allocations += isinstance(x, Rows) and x.format == FP8
    tally.dispatches += 1
    tally.charge(name, given, _parts(made), kind="product", operations=2 * rows * inputs * outputs)


def _numbers(x: LinearInput) -> Tensor:
    return x.codes if isinstance(x, Rows) else x


def _parts(value: Any) -> list[Tensor]:
    if isinstance(value, Rows):
        return [value.codes, value.scale]
    return [value] if isinstance(value, Tensor) else []


def _new(given: tuple[Any, ...], result: Any) -> int:
    """How many tensors of a result are no argument's."""
    before = {id(part) for each in given for part in _parts(each)}
    return sum(id(part) not in before for part in _parts(result))


def _coded(x: Tensor, *given: Any) -> LinearInput:
    """A result like x, in 8 bits where the last argument is a format."""
    form = given[-1]
    if isinstance(form, Format):
        return Rows.empty(*x.shape, form, dtype=x.dtype, device=x.device)
    return torch.empty_like(x)


def _modulated(
    x: Tensor, shift: Tensor, scale: Tensor, eps: float, form: Format | None = None, out: LinearInput | None = None
) -> LinearInput:
    return _coded(x, shift, scale, eps, form) if out is None else out


def _gelu_(x: Tensor, form: Format | None) -> LinearInput:
    return x if form is None else _coded(x, form)


def _linear(x: Tensor, weight: Tensor, _bias: Tensor | None) -> Tensor:
    return x.new_empty(len(x), len(weight))


def _multiplied(rows: Rows, weight: Rows, _bias: Tensor | None, out: Tensor | None) -> Tensor:
    return rows.codes.new_empty(len(rows.codes), len(weight.codes), dtype=rows.dtype) if out is None else out


def _itself(x: Tensor, *_: Any) -> Tensor:
    return x


def _normed(_x: Tensor, _rows: Rows, _weight: Rows, _bias: Any, _gate: Any, _norm: Norm, out: Rows) -> Rows:
    return out


# where x is, before its weight and bias
_PRODUCTS = {"linear_gelu": 0, "multiply": 0, "multiply_add_": 1, "multiply_add_norm_": 1}
_MAKING = frozenset({"linear_gelu", "multiply"})  # of these, what gives the product itself
_MAKES: dict[str, Callable[..., Any]] = {
    "modulate": _modulated,
    "layer_norm": _coded,
    "norm_": _itself,
    "norm_turn_": _itself,
    "gated_add_": _itself,
    "linear_gelu": _linear,
    "gelu_": _gelu_,
    "quantize": _coded,
    "multiply": _multiplied,
    "multiply_add_": _itself,
    "multiply_add_norm_": _normed,
}


@contextmanager
def eight_bits(tally: Tally) -> Iterator[None]:
    """Quantizing weights as on a card, and making them ready in a card's slices."""

    def quantize_(numbers: Tensor, _: Format, codes: Tensor, scale: Tensor) -> None:
        tally.dispatches += 1
        tally.charge("quantize", [numbers], [codes, scale])

    with ExitStack() as stack:
        stack.enter_context(mock.patch("holo_lite.eightbit.coding.quantize_plainly_", quantize_))
        stack.enter_context(mock.patch.object(scheme.Scheme, "_slices", _slices_of_a_card))
        yield


@contextmanager
def own_tables() -> Iterator[None]:
    """Let bitsandbytes keep a table of the card for the context: else it has one for the process and any device."""
    table = torch.empty(TABLE, dtype=torch.float32, device=CARD)
    with mock.patch.dict("bitsandbytes.functional.name2qmap", {"dynamic": table}):
        yield


def _slices_of_a_card(self: scheme.Scheme, shape: tuple[int, int], _: torch.device) -> Iterator[slice]:
    step = max(1, scheme.CUDA_SLICES * self.slice_elements // shape[1])
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))
