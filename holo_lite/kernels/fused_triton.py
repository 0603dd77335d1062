"""The operations between matrix products on a card, each in one pass over memory. Imported only where Triton is.

The functions are those of `holo_lite.model.operations`, with the kernels of `fused_language`. Where a library has
one in the epilogue of its product, as cuBLASLt has GELU, that is taken.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from holo_lite.eightbit.product import multiply, runs_row_by_row
from holo_lite.eightbit.rows import FP8, INT8, SMALLEST, Format, Rows
from holo_lite.eightbit.triton_rows import card_of, is_measured, multiply_add_ as multiply_add_in_tiles, row_of
from holo_lite.kernels import fused_language as kernels
from holo_lite.model import equations, operations
from holo_lite.model.operations import LinearInput, Norm, Ops
from holo_lite.model.positions import Positions


def modulate(
    x: Tensor,
    shift: Tensor,
    scale: Tensor,
    eps: float,
    form: Format | None = None,
    out: LinearInput | None = None,
) -> LinearInput:
    """LN(x) · (1 + scale) + shift, where a form is given in 8 bits; in `out`, where that is given.

    x: (n, d); shift, scale: (d,).
    """
    return _norm(x, scale, shift, eps, form, one=1.0, out=out)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, form: Format | None = None) -> LinearInput:
    """LN(x) · weight + bias, where a form is given in 8 bits. x: (n, d); weight, bias: (d,)."""
    return _norm(x, weight, bias, eps, form, one=0.0)


def norm_(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over all of d, in place. x: (n, d)."""
    width = _width(x)
    with card_of(x):
        kernels.rms[(len(x),)](x, weight, width, x.stride(0), eps, **row_of(width))
    return x


def norm_turn_(x: Tensor, weight: Tensor, eps: float, positions: Positions, tokens: slice) -> Tensor:
    """RMSNorm over all of d, then each head turned by its token's position, in place. x: (n, d), n tokens."""
    width, head_dim = _width(x), positions.head_dim
    grid = positions.rows, positions.columns
    assert len(x) == tokens.stop - tokens.start, "a row is a token"
    assert tokens.stop <= len(positions.cos[0]) * grid[0] * grid[1], "a token beyond the clip has no position"
    heads, block = (triton.next_power_of_2(number) for number in (width // head_dim, head_dim))
    with card_of(x):
        kernels.rms_turn[(len(x),)](
            x,
            weight,
            *positions.cos,
            *positions.sin,
            tokens.start,
            *grid,
            x.stride(0),
            eps,
            HEADS=width // head_dim,
            HEAD_DIM=head_dim,
            FRAME=positions.cos[0].shape[1],
            SPACE=positions.cos[1].shape[1],
            MOST_HEADS=heads,
            BLOCK=block,
            num_warps=row_of(heads * block)["num_warps"],
        )
    return x


def gated_add_(x: Tensor, update: Tensor, gate: Tensor | None) -> Tensor:
    """x += gate · update, or update alone. x, update: (n, d); gate: (d,)."""
    width, _ = _width(x), _width(update)
    flags = {"GATED": gate is not None, "enable_fp_fusion": False}  # the bits of a sum in a product's epilogue
    with card_of(x):
        kernels.gated_add[(len(x),)](
            x, update, gate, width, x.stride(0), update.stride(0), **flags, **row_of(width)
        )
    return x


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """GELU(x Wᵀ + b), by tanh, in the product's epilogue. x: (n, in); weight: (out, in); bias: (out,).

    On a CPU the same operator would compute GELU by erf.
    """
    if bias is None or not x.is_cuda:
        return operations.linear_gelu(x, weight, bias)
    found: Tensor = torch.ops.aten._addmm_activation(bias, x, weight.t(), use_gelu=True)
    return found


def gelu_(x: Tensor, form: Format | None) -> LinearInput:
    """GELU by tanh, where a form is given in 8 bits; may use x's memory. x: (n, f)."""
    if form is None:
        return equations.gelu_(x)
    width, rows = _width(x), _rows_like(x, form)
    with card_of(x):
        kernels.gelu_coded[(len(x),)](
            x, rows.codes, rows.scale, width, x.stride(0), width, **_coding(form), **row_of(width)
        )
    return rows


def multiply_add_(x: Tensor, rows: Rows, weight: Rows, bias: Tensor | None, gate: Tensor | None) -> Tensor:
    """x += gate · (rows · weightᵀ + bias), in the product's epilogue. x: (n, out); gate: (out,).

    A product in tiles that has not been measured yet, and one that PyTorch computes, is made first and added then.
    """
    if _adds_in_tiles(x, rows, weight):
        return multiply_add_in_tiles(x, rows, weight, bias, gate)
    return gated_add_(x, multiply(rows, weight, bias), gate)


def multiply_add_norm_(
    x: Tensor, rows: Rows, weight: Rows, bias: Tensor | None, gate: Tensor | None, norm: Norm, out: Rows
) -> Rows:
    """`multiply_add_`, and of its result what the next layer begins with, in `out`. x: (n, d).

    Where the product cannot add, one kernel does that and norms the sum.
    """
    if _adds_in_tiles(x, rows, weight):
        multiply_add_in_tiles(x, rows, weight, bias, gate)
        _norm(x, norm.scale, norm.shift, norm.eps, out.format, one=norm.one, out=out)
    else:
        add_norm_(x, multiply(rows, weight, bias), gate, norm, out)
    return out


def add_norm_(x: Tensor, update: Tensor, gate: Tensor | None, norm: Norm, out: Rows) -> None:
    """x += gate · update, or update alone, and of that the norm, in `out`. x, update: (n, d); gate: (d,)."""
    width, _, _ = _width(x), _width(update), _width(out.codes)
    flags = {"GATED": gate is not None, "ONE": norm.one, "enable_fp_fusion": False}  # as in `gated_add_`
    with card_of(x):
        kernels.add_norm[(len(x),)](
            x,
            update,
            gate,
            norm.scale,
            norm.shift,
            out.codes,
            out.scale,
            width,
            x.stride(0),
            update.stride(0),
            out.codes.stride(0),
            norm.eps,
            **flags,
            **_coding(out.format),
            **row_of(width),
        )


def _adds_in_tiles(x: Tensor, rows: Rows, weight: Rows) -> bool:
    """Whether the product itself adds to x: one in tiles that is measured, and not PyTorch's."""
    by_pytorch = rows.format == FP8 and runs_row_by_row(x.device)
    return not by_pytorch and is_measured(rows, weight)


def triton_ops() -> Ops:
    """All of them."""
    return Ops(
        modulate=modulate,
        layer_norm=layer_norm,
        norm_=norm_,
        norm_turn_=norm_turn_,
        gated_add_=gated_add_,
        linear_gelu=linear_gelu,
        gelu_=gelu_,
        multiply_add_=multiply_add_,
        multiply_add_norm_=multiply_add_norm_,
    )


def _norm(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    form: Format | None,
    *,
    one: float,
    out: LinearInput | None = None,
) -> LinearInput:
    width = _width(x)
    if out is None:
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device) if form is None else _rows_like(x, form)
    codes, unit = (out.codes, out.scale) if isinstance(out, Rows) else (out, None)
    with card_of(x):
        kernels.norm[(len(x),)](
            x,
            scale,
            shift,
            codes,
            unit,
            width,
            x.stride(0),
            _width(codes),
            eps,
            ONE=one,
            CODED=form is not None,
            **_coding(form or INT8),
            **row_of(width),
        )
    return out


def _rows_like(x: Tensor, form: Format) -> Rows:
    count, width = x.shape
    return Rows.empty(count, width, form, dtype=x.dtype, device=x.device)


def _coding(form: Format) -> dict[str, float]:
    return {"LARGEST": form.largest, "SMALLEST": SMALLEST, "WHOLE": form.whole}


def _width(x: Tensor) -> int:
    assert x.stride(1) == 1, "rows lie in one piece"
    return x.shape[1]
