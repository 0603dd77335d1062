"""Kernels in numbers alone: which weights can be multiplied in 8 bits, and what memory is needed on the way.

Planning asks without a tensor library. Bytes follow the code in `rows` and `product`:

    codes         n·k + 4 n           rows in 8 bits: a byte a number, a scale in fp32 a row
    quantizing    4·slice + 13 rows of a slice       a slice of rows in fp32, and its scales being made
    multiplying   on a card none; on a CPU the reference works through a slice of the weight's rows, r of them:
                  fp8: 4 (n·k + r·k + n·r), all of it in fp32
                  int8: the same in int32, or if that is more 8 n·r, sums in int32 and in fp32. A CPU with VNNI
                  multiplies the codes as they are and needs the sums alone
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EightBits = Literal["fp8", "int8"]
LinearMode = Literal["plain", "fp8", "int8"]  # how matrices are multiplied
SLICE = 2**20  # numbers in work at once
MULTIPLE: dict[EightBits, int] = {"fp8": 16, "int8": 1}  # of which both sides of a weight must be
SCALE = 4  # bytes
FP32 = 4
SCALING = 13  # bytes a row while its scale is made: absmax, quotient, what is chosen, and whether


def unfit(bits: EightBits, outputs: int, inputs: int) -> str | None:
    """Say why a weight (out, in) cannot be multiplied so, or None where it can. The same on every device."""
    multiple = MULTIPLE[bits]
    if outputs % multiple or inputs % multiple:
        return f"weights of {outputs}x{inputs} are not rounded: {bits} needs multiples of {multiple}"
    return None


def coded(rows: int, width: int) -> int:
    """Bytes of rows in 8 bits."""
    return rows * (width + SCALE)


def slice_rows(width: int) -> int:
    """How many rows of the given length are processed at once."""
    return max(1, SLICE // width)


def quantizing(rows: int, width: int) -> int:
    """Bytes that quantizing needs in addition to its input and output."""
    return min(rows, slice_rows(width)) * (FP32 * width + SCALING)


def multiplying(bits: EightBits, rows: int, inputs: int, outputs: int) -> int:
    """Bytes that a product of (rows, inputs) needs on a CPU in addition to its input and output."""
    part = min(outputs, slice_rows(inputs))
    widened = FP32 * (rows * inputs + part * inputs + rows * part)
    return max(widened, 2 * FP32 * rows * part) if bits == "int8" else widened


@dataclass(frozen=True)
class Workspace:
    """The most an attention kernel holds in addition to its input and output: bytes per number of queries and keys.

    Kernels that compute tile by tile hold sums of their rows, 4 bytes a head, which is less than the room that a
    layer leaves them (a projection's result takes more).
    """

    queries: int = 0
    keys: int = 0

    def nbytes(self, queries: int, keys: int, width: int) -> int:
        """Bytes for the given rows of queries and of keys."""
        return width * (self.queries * queries + self.keys * keys)


NO_WORKSPACE = Workspace()
