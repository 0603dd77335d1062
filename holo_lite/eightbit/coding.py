"""From numbers to rows in 8 bits, by a card's kernel where there is one."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor

from holo_lite.eightbit.rows import Format, Rows, quantize_plainly_


def quantize(numbers: Tensor, form: Format) -> Rows:
    """Numbers (n, k), any floating dtype → rows in 8 bits. A NaN makes all that comes of its row NaN."""
    count, width = numbers.shape
    rows = Rows.empty(count, width, form, dtype=numbers.dtype, device=numbers.device)
    _fill_(rows, slice(None), numbers)
    return rows


def quantize_slices(
    slices: Iterable[tuple[slice, Tensor]], shape: tuple[int, int], form: Format, dtype: torch.dtype
) -> Rows:
    """Quantize (n, k) that comes a slice of rows at a time, and free each slice as soon as possible."""
    made: Rows | None = None
    for where, numbers in slices:
        made = made or Rows.empty(*shape, form, dtype=dtype, device=numbers.device)
        _fill_(made, where, numbers)
        del numbers
    assert made is not None, "a weight has rows"
    return made


@cache
def has_triton() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def _fill_(rows: Rows, where: slice, numbers: Tensor) -> None:
    """Quantize numbers (m, k) into a slice of m rows."""
    if numbers.is_cuda and has_triton():
        from holo_lite.eightbit.triton_rows import quantize_
    else:
        quantize_ = quantize_plainly_
    quantize_(numbers, rows.format, rows.codes[where], rows.scale[where])
