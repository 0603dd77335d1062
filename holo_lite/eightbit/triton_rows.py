"""Quantizing and multiplying rows in 8 bits on a card. Imported only where a card and Triton are there.

Which tiles are fastest is measured once for each shape of a weight, on its first product: no memory is taken in
addition to that. int8's sums are exact in any order, so the choice changes no bit there.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from holo_lite.eightbit import triton_kernels as kernels
from holo_lite.eightbit.rows import SMALLEST, Format, Rows

logger = logging.getLogger(__name__)

FEW, MANY = 512, 2**20  # rows, at most: for few, other tiles may be best
MOST_WARPS = 16
NUMBERS_A_WARP = 1024
ROUNDS = 3

# Tiles of (rows, outputs, inputs at a time), warps, stages. The largest need 96 KB of shared memory; consumer cards
# have 99. Some compilers put half of the first one's sums into slow memory: the measurement then passes it over.
TILES = (
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
    block = triton.next_power_of_2(width)
    warps = min(MOST_WARPS, max(1, block // NUMBERS_A_WARP))
    with _card_of(numbers):
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
            BLOCK=block,
            num_warps=warps,
        )


def multiply(x: Rows, weight: Rows, bias: Tensor | None, tile: Sequence[int] | None = None) -> Tensor:
    """x: (n, in); weight: (out, in); bias: (out,) → (n, out). `tile` is one of TILES; None: the fastest."""
    rows, inputs = x.codes.shape
    outputs = len(weight.codes)
    assert x.codes.is_contiguous(), "rows lie one behind the other"
    assert weight.codes.is_contiguous(), "rows lie one behind the other"
    out = x.codes.new_empty(rows, outputs, dtype=x.dtype)
    added = out if bias is None else bias
    given = (x.codes, weight.codes, out, x.scale, weight.scale, added, rows, outputs, FEW if rows <= FEW else MANY)
    flags = {"INPUTS": inputs, "BIASED": bias is not None, "WHOLE": x.format.whole}

    def grid(meta: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(rows, meta["ROWS"]) * triton.cdiv(outputs, meta["OUTPUTS"]),)

    with _card_of(out):
        if tile is None:
            _tuned()[grid](*given, **flags, enable_fp_fusion=False)
        else:
            kernels.multiply[grid](*given, **flags, **config(tile).all_kwargs(), enable_fp_fusion=False)
    return out


def config(tile: Sequence[int]) -> Any:
    """A tile as Triton takes it."""
    rows, outputs, part, warps, stages = tile
    meta = {"ROWS": rows, "OUTPUTS": outputs, "PART": part}
    return triton.Config(meta, num_warps=warps, num_stages=stages)


def _card_of(tensor: Tensor) -> AbstractContextManager[None]:
    """Within, the card that holds a tensor is the current one, on which Triton launches. Nothing for a CPU's."""
    return torch.cuda.device_of(tensor)  # type: ignore[no-untyped-call]


@cache
def _tuned() -> Any:
    """The product with the fastest tiles."""
    key = ["INPUTS", "outputs", "most_rows", "WHOLE"]
    return triton.autotune([config(tile) for tile in TILES], key=key, do_bench=_seconds)(kernels.multiply)


def _seconds(call: Callable[[], Any], quantiles: Sequence[float]) -> list[float]:
    """How long a call takes: the shortest of a few, after one that compiles. Triton's own clears 256 MB first.

    Tiles that a compiler fails at are never the fastest. Raises `torch.OutOfMemoryError`, which is not theirs.
    """
    try:
        call()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a compiler's, whose errors have no common root
        logger.info("tiles are left out: %s", error)
        return [math.inf] * len(quantiles)
    times = []
    for _ in range(ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return [min(times)] * len(quantiles)
