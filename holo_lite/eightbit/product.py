"""The product of rows in 8 bits: sums of codes' products, times both scales, plus the bias, in one pass on a card.

    y[i, j] = (Σₖ x[i, k] · w[j, k]) · scale[i] · scale[j] + bias[j]

fp8 goes through `torch._scaled_mm`, row by row, which wants the second operand by columns (a weight's rows as they
lie), sides that are multiples of 16, and bf16 out. Not every build and card has it: Windows does not, and PyTorch
2.10 refused RTX 50xx. There, and for int8 everywhere, it is `triton_rows`: a library's int8 product writes its sums
to memory as int32, twice the bytes of the result, to be read again.

On a CPU it is the reference, with the same codes and scales: it shows what 8 bits cost, and saves nothing.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from holo_lite.eightbit.limits import slice_rows
from holo_lite.eightbit.rows import FP8, Rows, quantize_plainly

CLOSE = 2**-6  # relative error of a product in bf16 of few sums: four roundings; a wrong layout gives 1
SIDES = (272, 1280, 528)  # rows, inputs, outputs of a trial: several tiles, and no library finds them too few


def multiply(x: Rows, weight: Rows, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    """x: (n, in); weight: (out, in), of one format; bias: (out,) → (n, out), new in the dtype x had, or `out`."""
    assert x.format == weight.format, "both are in one format"
    if not x.codes.is_cuda:
        return reference(x, weight, bias, out)
    if x.format == FP8 and runs_row_by_row(x.codes.device):
        return row_by_row(x, weight, bias, out)
    from holo_lite.eightbit.triton_rows import multiply as multiply_in_tiles

    return multiply_in_tiles(x, weight, bias, out)


def reference(x: Rows, weight: Rows, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    """The product by PyTorch's own functions, a slice of the weight's rows at a time. Sums of int8 are exact."""
    codes = x.codes if x.format.whole else x.codes.to(torch.float32)
    if out is None:
        out = codes.new_empty(len(codes), len(weight.codes), dtype=x.dtype)
    step = slice_rows(codes.shape[1])
    for start in range(0, len(weight.codes), step):
        rows = slice(start, start + step)
        part = weight.codes[rows]
        sums = _whole_sums(codes, part) if x.format.whole else F.linear(codes, part.to(torch.float32))
        sums = sums.to(torch.float32).mul_(x.scale).mul_(weight.scale[rows, 0])
        out[:, rows] = sums if bias is None else sums.add_(bias[rows])
        del sums
    return out


def row_by_row(x: Rows, weight: Rows, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    """The product of fp8 by PyTorch's kernel, bf16."""
    return torch._scaled_mm(
        x.codes,
        weight.codes.t(),
        scale_a=x.scale,
        scale_b=weight.scale.t(),
        bias=bias,
        out_dtype=x.dtype,
        use_fast_accum=True,
        **({} if out is None else {"out": out}),
    )


@cache
def runs_row_by_row(device: torch.device) -> bool:
    """Whether PyTorch's kernel for fp8 runs there, by a small product. Raises `torch.OutOfMemoryError`."""
    generator = torch.Generator().manual_seed(0)
    rows, inputs, outputs = SIDES
    x, weight = (torch.randn(n, inputs, generator=generator).bfloat16() for n in (rows, outputs))
    operands = quantize_plainly(x, FP8), quantize_plainly(weight, FP8)
    try:
        found = row_by_row(operands[0].to(device), operands[1].to(device), None)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError):  # what PyTorch says of a card or a build that has no such kernel
        return False
    return off(found.cpu(), reference(*operands, None)) <= CLOSE


def off(found: Tensor, expected: Tensor) -> float:
    """The relative error of one tensor as against another, NaN where one is in it."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def _whole_sums(x: Tensor, weight: Tensor) -> Tensor:
    """Σₖ x · w of int8 in int32, exact.

    Without VNNI the library adds pairs in 16 bits, which saturate; and a single column it takes for a row.
    """
    if torch.cpu._is_vnni_supported() and x.shape[1] > 1:
        return torch._int_mm(x, weight.t())
    return x.to(torch.int32) @ weight.to(torch.int32).t()
