"""What every scheme promises, and how one works through a large weight in slices of rows.

A 13824×5120 weight is 141 MB in bf16; a quantizer that takes it whole makes half a dozen float32 copies on
the way, and that is 2 GB. Every scheme here keeps its statistics within a row, so any slice of rows can be
packed alone, written to its place in the result, and forgotten: the temporaries are bounded by the slice, and
the bits do not depend on where the slices are cut. Small slices would stay in the cache, but every one ends in
a dozen waits of all threads for each other, and on a machine whose cores have other work (reading, hashing)
such a wait is a turn of the scheduler: slices of 2^18 then take ten times as long, of 2^22 twice.

On disk and in memory a packed weight is a handful of plain tensors, `parts`. Their shapes and dtypes follow
from the shape of the weight alone, so a file can be planned before its first number is read.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from holo_lite.eightbit.limits import EightBits

SLICE = 2**22  # numbers taken at once, for 0.1 GB of temporaries (why not fewer: above)
CUDA_SLICES = 2  # taken together on a card, where launching a kernel costs more


@dataclass(frozen=True)
class PartSpec:
    """Shape and dtype of one stored tensor, known before there is any data."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """The tensor's size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Scheme(ABC):
    """One way to store the weight of a Linear, as pure functions of tensors.

    `error_bound` bounds the relative error ‖W − W'‖ / ‖W‖ (Frobenius norms, W' in float32) of a weight of
    independent Gaussian numbers with rows up to 13824 long, the longest in the model. It is derived with
    each scheme and is 6 to 8 % above the exact expectation, since a given tensor scatters around it.
    Heavier tails than a Gaussian's can exceed it.

    The length of a row must be a multiple of `block`. `slice_elements` is the most numbers taken at once (one
    row, if that is longer), and twice that on a card.
    """

    name: str
    error_bound: float
    block: int = 1
    slice_elements: int = SLICE

    @abstractmethod
    def parts(self, shape: tuple[int, int]) -> dict[str, PartSpec]:
        """Name the tensors a weight of `shape` (out, in) is stored as, in storing order."""

    @abstractmethod
    def pack(self, weight: Tensor) -> dict[str, Tensor]:
        """Store a weight: (out, in), finite, any floating dtype and device → `parts`, on that device.

        Shape and numbers have been checked by the caller. Rows of zeros come back as zeros, and numbers too
        small for their scale to be a float32 (below 1e-36) as zeros or about as small, never as NaN.
        """

    @abstractmethod
    def unpack(self, parts: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Give the weight back: `parts` → (out, in) in `dtype`, on the parts' device.

        `dtype` is float32, bfloat16 or float16. The arithmetic is float32, rounded once, at the end.
        """

    @abstractmethod
    def slices(self, parts: Mapping[str, Tensor], shape: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
        """Yield the weight a slice of rows at a time: which rows, and (n, in) float32 that the caller owns."""

    @property
    def eight_bits(self) -> EightBits | None:
        """The format of 8 bits in which a weight is stored, with a scale a row, ready to be multiplied."""
        return None

    def coded(self, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """The codes (out, in) and scales (out, 1), float32, of a scheme with `eight_bits`: W' = codes · scale."""
        raise AssertionError(f"{self.name} is not stored in rows of 8 bits")

    def fits(self, shape: tuple[int, int]) -> str | None:
        """Say why a weight of `shape` (out, in) cannot be stored so, or None when it can."""
        if 0 in shape:
            return "it is empty"
        if shape[1] % self.block:
            return f"its rows of {shape[1]} numbers cannot be divided into blocks of {self.block}"
        return None

    def _slices(self, shape: tuple[int, int], device: torch.device) -> Iterator[slice]:
        rows, columns = shape
        elements = self.slice_elements * (CUDA_SLICES if device.type == "cuda" else 1)
        step = max(1, elements // columns)
        return (slice(start, min(start + step, rows)) for start in range(0, rows, step))

    def nbytes(self, shape: tuple[int, int]) -> int:
        """Bytes that the parts of a weight of `shape` (out, in) take, without filler between them."""
        return sum(part.nbytes for part in self.parts(shape).values())


@dataclass(frozen=True)
class RowWise(Scheme):
    """A scheme in which a row and all that is stored of it are independent of the other rows."""

    def pack(self, weight: Tensor) -> dict[str, Tensor]:
        """Store a weight slice by slice, as `Scheme.pack` says."""
        shape = weight.shape[0], weight.shape[1]
        assert self.fits(shape) is None, f"{self.name} cannot store {shape}: {self.fits(shape)}"
        packed = {
            name: torch.empty(part.shape, dtype=part.dtype, device=weight.device)
            for name, part in self.parts(shape).items()
        }
        for rows in self._slices(shape, weight.device):
            numbers = weight[rows].detach().to(torch.float32).contiguous()
            for name, part in self._pack_rows(numbers).items():
                packed[name][rows] = part
        return packed

    def unpack(self, parts: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Give a weight back slice by slice, as `Scheme.unpack` says."""
        weight = torch.empty(shape, dtype=dtype, device=next(iter(parts.values())).device)
        for rows in self._slices(shape, weight.device):
            self._unpack_into(weight[rows], {name: part[rows] for name, part in parts.items()})
        return weight

    def slices(self, parts: Mapping[str, Tensor], shape: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
        """Give a weight back slice by slice, as `Scheme.slices` says."""
        for rows in self._slices(shape, next(iter(parts.values())).device):
            yield rows, self._unpack_rows({name: part[rows] for name, part in parts.items()}, torch.float32)

    def _unpack_into(self, out: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Unpack a slice to its place. out: (n, in), rows one behind the other."""
        out.copy_(self._unpack_rows(parts, out.dtype))

    @abstractmethod
    def _pack_rows(self, rows: Tensor) -> dict[str, Tensor]:
        """Pack a slice. rows: (n, in) float32, contiguous → every part, each with n rows."""

    @abstractmethod
    def _unpack_rows(self, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """Unpack a slice: every part, each with n rows → (n, in) in float32, or already in `dtype`."""
