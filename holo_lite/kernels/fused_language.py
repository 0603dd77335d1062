"""The fused operations in Triton's language: functions compiled for a card, and called by `fused_triton`.

One program takes one row. It is read once, into registers, computed in fp32, and written once, rounded once.
"""

from __future__ import annotations

import triton
import triton.language as tl

from holo_lite.eightbit.triton_kernels import coded

CUBIC = tl.constexpr(0.044715)
FACTOR = tl.constexpr(-2 * 0.7978845608028654)  # the root of 2/π


@triton.jit
def _normed(wide, scale, shift, columns, width, eps, ONE: tl.constexpr):
    """LN(wide) · (ONE + scale) + shift of a row in fp32, zeros where it has no number."""
    inside = columns < width
    wide = tl.where(inside, wide - tl.sum(wide, 0) / width, 0.0)
    wide = wide * tl.rsqrt(tl.sum(wide * wide, 0) / width + eps)
    factor = ONE + tl.load(scale + columns, mask=inside, other=0.0).to(tl.float32)
    return wide * factor + tl.load(shift + columns, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def norm(
    x,
    scale,
    shift,
    out,
    unit,
    width,
    x_stride,
    out_stride,
    eps,
    ONE: tl.constexpr,
    CODED: tl.constexpr,
    LARGEST: tl.constexpr,
    SMALLEST: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """LN(x) · (ONE + scale) + shift, in 8 bits if CODED. x, out: (n, width); scale, shift: (width,); unit: (n,)."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    wide = tl.load(x + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
    wide = _normed(wide, scale, shift, columns, width, eps, ONE)
    if CODED:
        wide, step = coded(wide, LARGEST, SMALLEST, WHOLE)
        tl.store(unit + row, step)
    tl.store(out + row * out_stride + columns, wide.to(out.dtype.element_ty), mask=inside)


@triton.jit
def rms(x, weight, width, x_stride, eps, BLOCK: tl.constexpr):
    """x / sqrt(mean(x²) + eps) · weight, in place. x: (n, width); weight: (width,)."""
    place = x + tl.program_id(0).to(tl.int64) * x_stride + tl.arange(0, BLOCK)
    inside = tl.arange(0, BLOCK) < width
    wide = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    factor = tl.load(weight + tl.arange(0, BLOCK), mask=inside, other=0.0).to(tl.float32)
    wide = wide * tl.rsqrt(tl.sum(wide * wide, 0) / width + eps) * factor
    tl.store(place, wide.to(x.dtype.element_ty), mask=inside)


@triton.jit
def _angles(
    frames, rows, columns, frame, row, column, FRAME: tl.constexpr, SPACE: tl.constexpr, HALF: tl.constexpr
):
    """A token's row of a table for the whole clip, put together from the three axes' tables. → (HALF,)."""
    pair = tl.arange(0, HALF)
    of_row = (pair >= FRAME) & (pair < FRAME + SPACE)
    of_column = (pair >= FRAME + SPACE) & (pair < FRAME + 2 * SPACE)
    found = tl.load(frames + frame * FRAME + pair, mask=pair < FRAME, other=0.0)
    found += tl.load(rows + row * SPACE + pair - FRAME, mask=of_row, other=0.0)
    return found + tl.load(columns + column * SPACE + pair - FRAME - SPACE, mask=of_column, other=0.0)


@triton.jit(do_not_specialize=["first"])  # every chunk has another one
def rms_turn(
    x,
    weight,
    cos_frames,
    cos_rows,
    cos_columns,
    sin_frames,
    sin_rows,
    sin_columns,
    first,
    rows,
    columns,
    x_stride,
    eps,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FRAME: tl.constexpr,
    SPACE: tl.constexpr,
    MOST_HEADS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The norm, then each head turned by the position of token `first` + n, in place. x: (n, HEADS · HEAD_DIM).

    Tables: (positions, FRAME) or (positions, SPACE), fp32; FRAME + 2 · SPACE = HEAD_DIM / 2. MOST_HEADS and BLOCK
    are the powers of two that hold HEADS and HEAD_DIM.
    """
    head = tl.arange(0, MOST_HEADS)[:, None]
    number = tl.arange(0, BLOCK)[None, :]
    inside = (head < HEADS) & (number < HEAD_DIM)
    place = head * HEAD_DIM + number
    memory = x + tl.program_id(0).to(tl.int64) * x_stride + place
    wide = tl.load(memory, mask=inside, other=0.0).to(tl.float32)
    factor = tl.load(weight + place, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(tl.sum(wide * wide, 1), 0) / (HEADS * HEAD_DIM)
    wide = wide * tl.rsqrt(mean + eps) * factor
    token = first + tl.program_id(0)
    column, row, frame = token % columns, token // columns % rows, token // columns // rows
    cos = _angles(cos_frames, cos_rows, cos_columns, frame, row, column, FRAME, SPACE, BLOCK // 2)[None, :]
    sin = _angles(sin_frames, sin_rows, sin_columns, frame, row, column, FRAME, SPACE, BLOCK // 2)[None, :]
    even, odd = tl.split(tl.reshape(wide, (MOST_HEADS, BLOCK // 2, 2)))
    turned = tl.join(even * cos - odd * sin, odd * cos + even * sin)
    tl.store(memory, tl.reshape(turned, (MOST_HEADS, BLOCK)).to(x.dtype.element_ty), mask=inside)


@triton.jit
def _added(x, update, gate, columns, width, GATED: tl.constexpr):
    """A row's sum, written to x → what was written, fp32: a norm of it is that of the numbers in memory."""
    inside = columns < width
    wide = tl.load(update + columns, mask=inside, other=0.0).to(tl.float32)
    if GATED:
        wide *= tl.load(gate + columns, mask=inside, other=0.0).to(tl.float32)
    wide += tl.load(x + columns, mask=inside, other=0.0).to(tl.float32)
    rounded = wide.to(x.dtype.element_ty)
    tl.store(x + columns, rounded, mask=inside)
    return rounded.to(tl.float32)


@triton.jit
def gated_add(x, update, gate, width, x_stride, update_stride, GATED: tl.constexpr, BLOCK: tl.constexpr):
    """x += gate · update, in place; without GATED update alone. x, update: (n, width); gate: (width,)."""
    row = tl.program_id(0).to(tl.int64)
    _added(x + row * x_stride, update + row * update_stride, gate, tl.arange(0, BLOCK), width, GATED)


@triton.jit
def add_norm(
    x,
    update,
    gate,
    scale,
    shift,
    codes,
    unit,
    width,
    x_stride,
    update_stride,
    codes_stride,
    eps,
    GATED: tl.constexpr,
    ONE: tl.constexpr,
    LARGEST: tl.constexpr,
    SMALLEST: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """`gated_add`, and of the row it leaves in x the `norm`, in 8 bits: x is read once for both.

    x, update, codes: (n, width); gate, scale, shift: (width,); unit: (n,) float32.
    """
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    wide = _added(x + row * x_stride, update + row * update_stride, gate, columns, width, GATED)
    wide, step = coded(_normed(wide, scale, shift, columns, width, eps, ONE), LARGEST, SMALLEST, WHOLE)
    tl.store(unit + row, step)
    place = codes + row * codes_stride + columns
    tl.store(place, wide.to(codes.dtype.element_ty), mask=columns < width)


@triton.jit
def gelu_coded(
    x,
    codes,
    unit,
    width,
    x_stride,
    codes_stride,
    LARGEST: tl.constexpr,
    SMALLEST: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """GELU(x) by tanh, in 8 bits. x, codes: (n, width); unit: (n,) float32."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    wide = tl.load(x + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
    # x/2 · (1 + tanh(y)) is x / (1 + e^(-2y)): an overflow of the power gives the limit, 0
    wide = wide / (1 + tl.exp((wide + wide * wide * wide * CUBIC) * FACTOR))
    wide, step = coded(wide, LARGEST, SMALLEST, WHOLE)
    tl.store(unit + row, step)
    tl.store(codes + row * codes_stride + columns, wide.to(codes.dtype.element_ty), mask=inside)
