"""qint8, qfloat8 and qint4, by optimum-quanto's quantizers; all of that library we touch is in here.

Its tensor subclasses never leave the operations underneath: they cannot be cast or copied, report wrong sizes,
and the first unpacking of a qint4 one compiles C++ for half a minute. Three more of its habits are gone round:

- It computes in the dtype it is given, scale included. In bf16 that rounds every quotient to 8 bits before it
  is rounded to 8 bits, and costs 6 % of accuracy; here it is given float32.
- Its scales for a tensor with one row, or one group, are made per tensor; here always per row or group, so
  that a slice of one row has the bits it has within a larger slice.
- A row of zeros or a constant group has scale 0, and 0/0 follows; here such a scale is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from holo_lite.eightbit.limits import EightBits
from holo_lite.schemes.scheme import PartSpec, RowWise

GROUPS = (128, 64, 32)  # lengths of a qint4 group; the first that divides the row is taken


def _quanto() -> Any:
    """Import the library at first use."""
    import optimum.quanto

    return optimum.quanto


def _nonzero(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 1.0, scale)


@dataclass(frozen=True)
class _Symmetric(RowWise):
    """One byte a number, one float32 scale a row. W' = codes · scale."""

    qtype: str = ""
    dtype: torch.dtype = torch.int8

    def parts(self, shape: tuple[int, int]) -> dict[str, PartSpec]:
        """One byte a number and one float32 a row."""
        return {"codes": PartSpec(shape, self.dtype), "scale": PartSpec((shape[0], 1), torch.float32)}

    @property
    def eight_bits(self) -> EightBits | None:
        """They are int8 and fp8 as products take them."""
        return "int8" if self.dtype == torch.int8 else "fp8"

    def coded(self, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Codes and scales, unchanged."""
        return parts["codes"], parts["scale"]

    def _pack_rows(self, rows: Tensor) -> dict[str, Tensor]:
        quanto = _quanto()
        scale = _nonzero(quanto.AbsmaxOptimizer().optimize(rows, quanto.qtypes[self.qtype], 0))
        axis, scales = (None, scale[0, 0]) if len(rows) == 1 else (0, scale)
        codes = torch.ops.quanto.quantize_symmetric(rows, dtype=self.dtype, axis=axis, scale=scales)
        return {"codes": codes, "scale": scale}

    def _unpack_rows(self, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        return (parts["scale"] * parts["codes"].to(torch.float32)).to(dtype)


@dataclass(frozen=True)
class QInt8(_Symmetric):
    """Row-wise int8. Parts: codes (out, in) int8; scale (out, 1) float32, absmax/127.

    Bound: that of `bnb.Int8`, the same grid.
    """

    name: str = "qint8"
    error_bound: float = 0.0100
    qtype: str = "qint8"


@dataclass(frozen=True)
class QFloat8(_Symmetric):
    """Row-wise e4m3. Parts: codes (out, in) float8_e4m3fn; scale (out, 1) float32, absmax/448.

    Bound: with 3 bits of mantissa a number in [2^e, 2^(e+1)) lies on a grid of step 2^(e−3), and rounding
    to it errs by step/√12 (rms). Over a Gaussian, √(E[step²]/12) lies between 0.0265 σ and 0.0266 σ wherever
    the scale puts σ between two powers of two; the subnormals, below 2^-14 of the absmax, do not count.
    """

    name: str = "qfloat8"
    error_bound: float = 0.0285
    qtype: str = "qfloat8_e4m3fn"
    dtype: torch.dtype = torch.float8_e4m3fn


def group_size(columns: int) -> int:
    """Give the length of qint4's groups in rows of `columns`: the largest of 128, 64, 32 that divides them."""
    return next(size for size in GROUPS if columns % size == 0)


@dataclass(frozen=True)
class QInt4(RowWise):
    """16 even steps between the least and the greatest number of each group of a row.

    Parts: codes (out, in/2) uint8, columns 2j and 2j+1 in the high and low nibble of byte j; scale and
    shift (out, in/group) bfloat16: their shape gives the group. W' = code · scale − shift. Scale and shift
    are rounded to bfloat16 before the codes are chosen, so the rounding is not an error on top: 4.25 bits.

    Bound: rounding to steps of range/15 errs by step/√12 (rms). The range of 128 Gaussian numbers is 5.22 σ
    (rms), so the error is 5.22 / 15 / √12 = 0.1005; shorter groups have less.
    """

    name: str = "qint4"
    error_bound: float = 0.1070
    block: int = GROUPS[-1]

    def parts(self, shape: tuple[int, int]) -> dict[str, PartSpec]:
        """Half a byte a number and two bfloat16 a group."""
        rows, columns = shape
        groups = PartSpec((rows, columns // group_size(columns)), torch.bfloat16)
        return {"codes": PartSpec((rows, columns // 2), torch.uint8), "scale": groups, "shift": groups}

    def _pack_rows(self, rows: Tensor) -> dict[str, Tensor]:
        quanto = _quanto()
        groups = rows.view(-1, group_size(rows.shape[1]))
        exact = quanto.MaxOptimizer().optimize(groups, quanto.qint4, 0)
        scale, shift = _nonzero(exact[0].bfloat16()), exact[1].bfloat16()
        codes = torch.ops.quanto.quantize_affine(
            groups, bits=4, axis=0, group_size=None, scale=scale.float(), shift=shift.float()
        ).view(len(rows), -1)
        packed = (codes[:, 0::2] << 4) | codes[:, 1::2]
        return {"codes": packed, "scale": scale.view(len(rows), -1), "shift": shift.view(len(rows), -1)}

    def _unpack_rows(self, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        codes, scale, shift = parts["codes"], parts["scale"].float(), parts["shift"].float()
        numbers = torch.stack((codes >> 4, codes & 15), dim=-1).view(*scale.shape, -1)
        return (numbers * scale[..., None]).sub_(shift[..., None]).flatten(1).to(dtype)
