"""int8 and nf4, by bitsandbytes' functional operations on plain tensors.

The modules of that library are left alone: `Linear4bit` repacks its weight on some CPUs and cannot be saved
afterwards, `Params4bit` shares its state between devices. The functions underneath have no such trouble.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from holo_lite.eightbit.limits import EightBits
from holo_lite.schemes.scheme import PartSpec, RowWise, Scheme
from holo_lite.system.quiet import without_remarks

BLOCK = 64  # numbers of a row that share one absmax in nf4
STATISTICS_BLOCK = 256  # absmaxes that share one scale when they are quantized in turn
SMALLEST = 1e-36  # below this, 127 / absmax leaves float32
LARGEST = 127  # what a row's absmax becomes in int8


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Have `torch.compile` give functions back as they are, unless its compiler is loaded already.

    bitsandbytes compiles functions for devices that it has no kernel for as it is imported, none of which is used
    here; the compiler's code generator alone takes two seconds to load.
    """
    if "torch._dynamo" in sys.modules:
        yield
        return
    compiler, place = torch.compile, vars(torch)
    place["compile"] = _as_it_is
    try:
        yield
    finally:
        place["compile"] = compiler


def _as_it_is(function: Any = None, **_: Any) -> Any:
    return (lambda given: given) if function is None else function


@cache
def _functional() -> Any:
    """Import the library at first use, without its remark about an optional package."""
    with without_remarks(), _without_compiler():
        import bitsandbytes.functional

    return bitsandbytes.functional


@dataclass(frozen=True)
class Int8(RowWise):
    """Row-wise int8. Parts: codes (out, in) int8; absmax (out,) float32. W' = codes · absmax / 127.

    Bound: rounding to steps of absmax/127 errs by step/√12 (rms). The largest of 13824 Gaussian numbers is
    4.10 σ (rms), so the error is 4.10 / 127 / √12 = 0.0093; rows of 5120 give 0.0088.
    """

    name: str = "int8"
    error_bound: float = 0.0100

    def parts(self, shape: tuple[int, int]) -> dict[str, PartSpec]:
        """One byte a number and one float32 a row."""
        return {"codes": PartSpec(shape, torch.int8), "absmax": PartSpec(shape[:1], torch.float32)}

    @property
    def eight_bits(self) -> EightBits | None:
        """It is int8 as products take it."""
        return "int8"

    def coded(self, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The codes unchanged, and a step of each row."""
        return parts["codes"], parts["absmax"][:, None] / LARGEST

    def _pack_rows(self, rows: Tensor) -> dict[str, Tensor]:
        quantize = int8_through_half if rows.is_cuda else _int8
        codes, absmax = quantize(rows)
        return {"codes": codes.masked_fill_((absmax < SMALLEST)[:, None], 0), "absmax": absmax}

    def _unpack_into(self, out: Tensor, parts: Mapping[str, Tensor]) -> None:
        if not out.is_cuda:
            super()._unpack_into(out, parts)
            return
        int8_into(out, *self.coded(parts))

    def _unpack_rows(self, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        numbers: Tensor = _functional().int8_vectorwise_dequant(parts["codes"], parts["absmax"])
        return numbers.to(dtype)


def int8_into(out: Tensor, codes: Tensor, step: Tensor) -> None:
    """Write codes (n, in) int8 times a row's step (n, 1) float32 into out, in one pass and rounded once.

    The library's function gives the numbers in float32, by way of as many again.
    """
    torch.mul(codes, step, out=out)


def _int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    codes, absmax, _ = _functional().int8_vectorwise_quant(rows)
    return codes, absmax


def int8_through_half(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize with a kernel that takes only float16, as the library's for CUDA does.

    rows: (n, in) float32 → codes (n, in) int8, absmax (n,) float32. bf16 reaches far beyond float16, so each
    row is first divided by the power of two that brings its absmax into [0.5, 1). That is exact, and float16
    keeps 11 bits there against bf16's 8: a bf16 weight loses nothing, but for numbers below 2^-14 of the
    power, whose code is zero anyway. A float32 weight is rounded to 11 bits, a 500th of a step on average.
    """
    absmax = rows.abs().amax(dim=1)
    unit = torch.where(absmax < SMALLEST, 1.0, absmax / torch.frexp(absmax).mantissa)
    codes, half_absmax = _int8((rows / unit[:, None]).half())
    return codes, half_absmax * unit


@dataclass(frozen=True)
class Nf4Single(RowWise):
    """4 bits from a table of normal quantiles, one float32 absmax per 64 numbers: 4.5 bits a number.

    Parts: codes (out, in/2) uint8, columns 2j and 2j+1 in the high and low nibble of byte j; absmax
    (out, in/64) float32. W' = table[code] · absmax, with the table of QLoRA (arXiv:2305.14314, appendix E).

    Bound: a number divided by its block's absmax m goes to the nearest of 16 entries. That squared error,
    integrated over a Gaussian cut at ±m for 63 of the 64 (the largest is exact) and over the distribution
    of m, gives 0.0920.
    """

    name: str = "nf4-single"
    error_bound: float = 0.0980
    block: int = BLOCK  # whole blocks in every row, so that rows can be packed alone

    def parts(self, shape: tuple[int, int]) -> dict[str, PartSpec]:
        """Half a byte a number and one float32 a block."""
        rows, columns = shape
        return {
            "codes": PartSpec((rows, columns // 2), torch.uint8),
            "absmax": PartSpec((rows, columns // BLOCK), torch.float32),
        }

    def _pack_rows(self, rows: Tensor) -> dict[str, Tensor]:
        codes, state = _functional().quantize_4bit(rows, blocksize=BLOCK, quant_type="nf4")
        return {"codes": codes.view(len(rows), -1), "absmax": state.absmax.view(len(rows), -1)}

    def _unpack_into(self, out: Tensor, parts: Mapping[str, Tensor]) -> None:
        if out.is_cuda:  # the library writes in place there alone
            nf4(parts, out.dtype, out)
        else:
            super()._unpack_into(out, parts)

    def _unpack_rows(self, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        return nf4(parts, dtype)


def nf4(parts: Mapping[str, Tensor], dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
    """Codes (n, in/2) and absmax (n, in/64) as the library unpacks them → (n, in), in `out` where that is given."""
    codes, absmax = parts["codes"], parts["absmax"]
    shape = torch.Size((codes.shape[0], codes.shape[1] * 2))
    state = _functional().QuantState(absmax.reshape(-1), shape, None, BLOCK, "nf4", dtype)
    # As a column, the way the library makes it: one row of codes would count as a transposed weight.
    weight: Tensor = _functional().dequantize_4bit(codes.reshape(-1, 1), state, out=out)
    return weight


@dataclass(frozen=True)
class Nf4(Scheme):
    """nf4 whose absmaxes are quantized in turn, 4.13 bits a number: bit for bit the library's own.

    Parts: codes as in `Nf4Single`; absmax (out, in/64) uint8; absmax_scale (⌈out·in/64/256⌉,) float32;
    absmax_mean (1,) float32. The absmaxes are table8[absmax] · absmax_scale + absmax_mean, flattened, in
    blocks of 256 (QLoRA, section 3), with the 8-bit dynamic table of arXiv:1511.04561.

    The first level goes by slices of rows. The second takes all absmaxes at once, for their mean is the
    whole weight's and their blocks run on across rows; it adds less than 0.0001 to the error of the first.
    On the CPU, as in the library, the last bit of a large weight's mean depends on `torch.get_num_threads()`.
    """

    name: str = "nf4"
    error_bound: float = 0.0980
    block: int = BLOCK

    def parts(self, shape: tuple[int, int]) -> dict[str, PartSpec]:
        """Half a byte a number, one byte a block, one float32 per 256 blocks."""
        rows, columns = shape
        blocks = columns // BLOCK
        return {
            "codes": PartSpec((rows, columns // 2), torch.uint8),
            "absmax": PartSpec((rows, blocks), torch.uint8),
            "absmax_scale": PartSpec((-(-rows * blocks // STATISTICS_BLOCK),), torch.float32),
            "absmax_mean": PartSpec((1,), torch.float32),
        }

    def pack(self, weight: Tensor) -> dict[str, Tensor]:
        """Store a weight in two levels, as `Scheme.pack` says."""
        single = self._single().pack(weight)
        absmax = single["absmax"].flatten()
        mean = absmax.mean()
        codes, state = _functional().quantize_blockwise(absmax - mean, blocksize=STATISTICS_BLOCK)
        return {
            "codes": single["codes"],
            "absmax": codes.view(single["absmax"].shape),
            "absmax_scale": state.absmax,
            "absmax_mean": mean.reshape(1),
        }

    def unpack(self, parts: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Restore the absmaxes, then the weight, as `Scheme.unpack` says."""
        return self._single().unpack(self._in_one_level(parts), shape, dtype)

    def slices(self, parts: Mapping[str, Tensor], shape: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
        """Restore the absmaxes, then the weight slice by slice, as `Scheme.slices` says."""
        return self._single().slices(self._in_one_level(parts), shape)

    def _in_one_level(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parts of an `Nf4Single`."""
        scale = parts["absmax_scale"]
        absmax = _functional().dequantize_blockwise(parts["absmax"], absmax=scale, blocksize=STATISTICS_BLOCK)
        absmax += parts["absmax_mean"]
        return {"codes": parts["codes"], "absmax": absmax}

    def _single(self) -> Nf4Single:
        return Nf4Single(slice_elements=self.slice_elements)
