"""Rows of numbers in 8 bits, each with a scale of its own.

A row of activations is a token, a row of a weight what one output is made of. The scale is such that the row's
largest number becomes the format's largest: numbers ≈ codes · scale. Scales are made from the numbers at hand
(dynamic), so nothing has to be calibrated. With x the absmax of a row the error of a number is at most

    int8   x/127/2                    rounded to 255 even steps
    fp8    |number|/16 + x/448/1024   e4m3: 3 bits of mantissa, and subnormals' even steps below 2⁻⁶/448 of x

A card quantizes in one pass over memory (`triton_rows`); `quantize_plainly_` is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from holo_lite.eightbit.limits import EightBits, slice_rows

SMALLEST = 1e-30  # absmax of a row that counts as zeros: below, a scale leaves float32


@dataclass(frozen=True)
class Format:
    """A format of 8 bits. `largest` is what a row's absmax becomes; `whole`: its numbers are whole ones."""

    name: EightBits
    dtype: torch.dtype
    largest: float
    whole: bool


INT8 = Format("int8", torch.int8, 127.0, whole=True)
FP8 = Format("fp8", torch.float8_e4m3fn, 448.0, whole=False)
FORMATS: Mapping[EightBits, Format] = MappingProxyType({"int8": INT8, "fp8": FP8})


@dataclass(frozen=True)
class Rows:
    """codes: (n, k) in `format`; scale: (n, 1) float32; dtype: that of the numbers before."""

    format: Format
    codes: Tensor
    scale: Tensor
    dtype: torch.dtype

    @classmethod
    def empty(cls, rows: int, width: int, form: Format, *, dtype: torch.dtype, device: torch.device) -> Rows:
        """Memory for `rows` rows, to be filled."""
        codes = torch.empty(rows, width, dtype=form.dtype, device=device)
        return cls(form, codes, torch.empty(rows, 1, dtype=torch.float32, device=device), dtype)

    def __getitem__(self, rows: slice) -> Rows:
        """Some of the rows, in the same memory."""
        return replace(self, codes=self.codes[rows], scale=self.scale[rows])

    def to(self, device: torch.device) -> Rows:
        """The same rows on a device."""
        return replace(self, codes=self.codes.to(device), scale=self.scale.to(device))

    def numbers(self) -> Tensor:
        """The numbers that the codes encode, float32."""
        return self.codes.to(torch.float32).mul_(self.scale)


def quantize_plainly(numbers: Tensor, form: Format) -> Rows:
    """Numbers (n, k), any floating dtype → rows in 8 bits, by PyTorch's own functions."""
    count, width = numbers.shape
    rows = Rows.empty(count, width, form, dtype=numbers.dtype, device=numbers.device)
    quantize_plainly_(numbers, form, rows.codes, rows.scale)
    return rows


def quantize_plainly_(numbers: Tensor, form: Format, codes: Tensor, scale: Tensor) -> None:
    """Write codes (n, k) and scales (n, 1) of numbers (n, k), a slice at a time."""
    step = slice_rows(numbers.shape[1])
    for start in range(0, len(numbers), step):
        rows = slice(start, start + step)
        wide = numbers[rows].to(torch.float32, copy=True)
        absmax = torch.linalg.vector_norm(wide, torch.inf, dim=1, keepdim=True)
        unit = torch.where(absmax < SMALLEST, 1.0, absmax / form.largest)
        wide.div_(unit)
        codes[rows] = wide.round_() if form.whole else wide
        scale[rows] = unit
        del wide  # a loop's variable outlives its iteration, and would stay in memory with the next slice
