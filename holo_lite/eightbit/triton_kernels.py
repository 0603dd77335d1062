"""What runs on the card, in Triton's language: functions that are compiled for it, and called by `triton_rows`."""

from __future__ import annotations

import triton
import triton.language as tl

ROUNDING = tl.constexpr(1.5 * 2**23)  # added and taken off again, it leaves float32 no digits behind the point
GROUP = tl.constexpr(8)  # rows of tiles


@triton.jit
def _larger(one, other):
    """The larger of two numbers; NaN if one is."""
    return tl.where((one > other) | (one != one), one, other)


@triton.jit
def coded(wide, LARGEST: tl.constexpr, SMALLEST: tl.constexpr, WHOLE: tl.constexpr):
    """A row in float32, zeros where it has no number → what becomes its codes, and its scale."""
    absmax = tl.reduce(tl.abs(wide), 0, _larger)
    unit = tl.where(absmax < SMALLEST, 1.0, tl.div_rn(absmax, LARGEST))
    wide = tl.div_rn(wide, unit)
    if WHOLE:
        wide = (wide + ROUNDING) - ROUNDING
    return wide, unit


@triton.jit
def quantize(
    numbers,
    codes,
    scale,
    width,
    numbers_stride,
    codes_stride,
    LARGEST: tl.constexpr,
    SMALLEST: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program a row: it reads the row once, into registers, and writes codes and scale.

    numbers: (n, width), any floating dtype; codes: (n, width); scale: (n,) float32. WHOLE: codes are whole numbers.
    """
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    wide = tl.load(numbers + row * numbers_stride + columns, mask=inside, other=0.0).to(tl.float32)
    wide, unit = coded(wide, LARGEST, SMALLEST, WHOLE)
    tl.store(codes + row * codes_stride + columns, wide.to(codes.dtype.element_ty), mask=inside)
    tl.store(scale + row, unit)


@triton.jit
def multiply(
    x,
    weight,
    out,
    x_scale,
    weight_scale,
    bias,
    gate,
    rows,
    outputs,
    out_stride,
    INPUTS: tl.constexpr,
    BIASED: tl.constexpr,
    GATED: tl.constexpr,
    ADDED: tl.constexpr,
    WHOLE: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    PART: tl.constexpr,
):
    """One program a tile of (ROWS, OUTPUTS): sums stay in registers, where scales, bias and gate meet them.

    x: (rows, INPUTS); weight: (outputs, INPUTS); out: (rows, outputs); scales float32; bias, gate: (outputs,).
    WHOLE: of int8, summed in int32, else of fp8, in fp32. ADDED: to what is in `out`, in place of writing over it.

    Programs go through the output in groups of rows of tiles, so that neighbours find each other's operands in the
    cache. Rows and outputs beyond the edge wrap around and are not written.
    """
    down, across = tl.cdiv(rows, ROWS), tl.cdiv(outputs, OUTPUTS)
    program = tl.program_id(0)
    first = program // (GROUP * across) * GROUP
    high = min(down - first, GROUP)
    place = program % (GROUP * across)
    i = (first + place % high) * ROWS + tl.arange(0, ROWS)
    j = (place // high) * OUTPUTS + tl.arange(0, OUTPUTS)
    k = tl.arange(0, PART)
    x_tile = x + (i % rows).to(tl.int64)[:, None] * INPUTS + k[None, :]
    weight_tile = weight + (j % outputs).to(tl.int64)[None, :] * INPUTS + k[:, None]
    sums = tl.zeros((ROWS, OUTPUTS), dtype=tl.int32 if WHOLE else tl.float32)
    for done in range(0, INPUTS, PART):
        if INPUTS % PART == 0:
            ours, theirs = tl.load(x_tile), tl.load(weight_tile)
        else:
            ours = tl.load(x_tile, mask=k[None, :] < INPUTS - done, other=0.0)
            theirs = tl.load(weight_tile, mask=k[:, None] < INPUTS - done, other=0.0)
        sums = tl.dot(ours, theirs, sums, out_dtype=tl.int32 if WHOLE else tl.float32)
        x_tile += PART
        weight_tile += PART
    inside_rows, inside_outputs = i < rows, j < outputs
    x_scales = tl.load(x_scale + i, mask=inside_rows, other=0.0)
    weight_scales = tl.load(weight_scale + j, mask=inside_outputs, other=0.0)
    y = sums.to(tl.float32) * x_scales[:, None] * weight_scales[None, :]
    if BIASED:
        y += tl.load(bias + j, mask=inside_outputs, other=0.0).to(tl.float32)[None, :]
    y = y.to(out.dtype.element_ty)
    if GATED:
        y = y.to(tl.float32) * tl.load(gate + j, mask=inside_outputs, other=0.0).to(tl.float32)[None, :]
    places = out + i.to(tl.int64)[:, None] * out_stride + j[None, :]
    inside = inside_rows[:, None] & inside_outputs[None, :]
    if ADDED:  # what is rounded before it is added has the bits of a product and a sum, one after the other
        y = y.to(tl.float32) + tl.load(places, mask=inside, other=0.0).to(tl.float32)
    tl.store(places, y.to(out.dtype.element_ty), mask=inside)
