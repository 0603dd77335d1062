"""Quantizing and multiplying rows in 8 bits on a card. Imported only where a card and Triton are there.

Which tiles are fastest is measured once for each shape of a weight, on its first product: no memory is taken in
addition to that. int8's sums are exact in any order, so the choice changes no bit there.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import Any

import torch
import triton
from torch import Tensor

from holo_lite.eightbit import triton_kernels as kernels
from holo_lite.eightbit.rows import SMALLEST, Format, Rows

logger = logging.getLogger(__name__)

FEW = 512  # rows, at most: for few, other tiles may be best
MOST_WARPS = 16
NUMBERS_A_WARP = 1024
ROUNDS = 3

Tile = tuple[int, int, int, int, int]

# Tiles of (rows, outputs, inputs at a time), warps, stages. The largest need 96 KB of shared memory; consumer cards
# have 99. Some compilers put half of the first one's sums into slow memory: the measurement then passes it over.
TILES: tuple[Tile, ...] = (
    (128, 256, 64, 8, 3),
    (128, 128, 128, 8, 3),
    (128, 128, 64, 8, 4),
    (64, 256, 64, 8, 3),
    (64, 128, 128, 4, 3),
    (128, 64, 128, 4, 3),
)


def quantize_(numbers: Tensor, form: Format, codes: Tensor, scale: Tensor) -> None:
    """Write codes (n, k) and scales (n, 1) of numbers (n, k), whose rows are contiguous in themselves."""
    assert numbers.stride(1) == codes.stride(1) == 1, "rows lie in one piece"
    width = numbers.shape[1]
    with card_of(numbers):
        kernels.quantize[(len(numbers),)](
            numbers,
            codes,
            scale,
            width,
            numbers.stride(0),
            codes.stride(0),
            LARGEST=form.largest,
            SMALLEST=SMALLEST,
            WHOLE=form.whole,
            **row_of(width),
        )


def row_of(width: int) -> dict[str, int]:
    """How a program takes a row of so many numbers: in a block of registers, by so many warps."""
    block = triton.next_power_of_2(width)
    return {"BLOCK": block, "num_warps": min(MOST_WARPS, max(1, block // NUMBERS_A_WARP))}


def multiply(
    x: Rows, weight: Rows, bias: Tensor | None, out: Tensor | None = None, tile: Tile | None = None
) -> Tensor:
    """x: (n, in); weight: (out, in); bias: (out,) → (n, out). `tile` is one of TILES; None: the fastest."""
    if out is None:
        out = x.codes.new_empty(len(x.codes), len(weight.codes), dtype=x.dtype)
    tile = tile or _fastest(x, weight, bias, out)
    _launch(tile, x, weight, bias, out)
    return out


def multiply_add_(
    out: Tensor, x: Rows, weight: Rows, bias: Tensor | None, gate: Tensor | None, tile: Tile | None = None
) -> Tensor:
    """out += gate · (x weightᵀ + bias), or without a gate. out: (n, out); gate: (out,). Its tile is known.

    The bits are those of the product, rounded, and the gated sum, one after the other.
    """
    tile = tile or _measured()[_shape(x, weight)]
    _launch(tile, x, weight, bias, out, gate=gate, added=True)
    return out


def is_measured(x: Rows, weight: Rows) -> bool:
    """Whether the fastest tile of such a product is known. A sum cannot be repeated, so it is never measured."""
    return _shape(x, weight) in _measured()


def _launch(
    tile: Tile,
    x: Rows,
    weight: Rows,
    bias: Tensor | None,
    out: Tensor,
    *,
    gate: Tensor | None = None,
    added: bool = False,
) -> None:
    (rows, inputs), outputs = x.codes.shape, len(weight.codes)
    assert x.codes.is_contiguous(), "rows lie one behind the other"
    assert weight.codes.is_contiguous(), "rows lie one behind the other"
    assert out.stride(1) == 1, "rows lie in one piece"
    given = x.codes, weight.codes, out, x.scale, weight.scale, bias, gate, rows, outputs, out.stride(0)
    flags = {"BIASED": bias is not None, "GATED": gate is not None, "ADDED": added, "WHOLE": x.format.whole}
    grid = (triton.cdiv(rows, tile[0]) * triton.cdiv(outputs, tile[1]),)
    with card_of(out):
        kernels.multiply[grid](*given, INPUTS=inputs, **flags, **options(tile))


def options(tile: Tile) -> dict[str, Any]:
    """A tile as Triton takes it."""
    rows, outputs, part, warps, stages = tile
    meta = {"ROWS": rows, "OUTPUTS": outputs, "PART": part}
    return {**meta, "num_warps": warps, "num_stages": stages, "enable_fp_fusion": False}


def card_of(tensor: Tensor) -> AbstractContextManager[None]:
    """Within, the card that holds a tensor is the current one, on which Triton launches. Nothing for a CPU's."""
    return torch.cuda.device_of(tensor)  # type: ignore[no-untyped-call]


@cache
def _measured() -> dict[Hashable, Tile]:
    """The fastest tile of each shape."""
    return {}


def _shape(x: Rows, weight: Rows) -> Hashable:
    """All that the fastest tile depends on."""
    return x.codes.device, weight.codes.shape, len(x.codes) <= FEW, x.format.name, x.dtype


def _fastest(x: Rows, weight: Rows, bias: Tensor | None, out: Tensor) -> Tile:
    """The fastest tile, measured by the first product of a shape, into `out`."""
    known, shape = _measured(), _shape(x, weight)
    if shape not in known:
        times = {tile: _seconds(partial(_launch, tile, x, weight, bias, out)) for tile in TILES}
        known[shape] = min(times, key=lambda tile: times[tile])
    return known[shape]


def _seconds(call: Callable[[], Any]) -> float:
    """How long a call takes: the shortest of a few, after one that compiles.

    Tiles that a compiler fails at are never the fastest. Raises `torch.OutOfMemoryError`, which is not theirs.
    """
    try:
        call()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a compiler's, whose errors have no common root
        logger.info("tiles are left out: %s", error)
        return math.inf
    times: list[float] = []
    for _ in range(ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return min(times)
