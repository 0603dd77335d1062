"""Where bytes begin: tensors at multiples of 256, the data of a file and of a block at multiples of 4096."""

from __future__ import annotations

PAGE = 4096
ALIGNMENT = 256


def aligned(nbytes: int, to: int = ALIGNMENT) -> int:
    """Bytes with the filler behind them."""
    return -(-nbytes // to) * to
