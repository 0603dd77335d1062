"""How many bytes a card's memory moves for a tensor: by sectors of 32 bytes, the least that it moves at once."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

SECTOR = 32


def moved(tensor: Tensor) -> int:
    """Bytes of the sectors that hold the numbers of a tensor, each sector once, as if it began at one.

    Numbers that lie apart bring along what lies between them in a sector: every second bf16 of a row moves as many
    bytes as the whole row. Axes without a stride are the same memory again and move nothing.
    """
    span, sectors = tensor.element_size(), 1
    for size, stride in _axes(tensor):
        if stride - span < SECTOR:  # no sector lies between two neighbours
            span += (size - 1) * stride
            sectors = -(-span // SECTOR)
        else:
            span += (size - 1) * stride
            sectors *= size
    return sectors * SECTOR if tensor.numel() else 0


def _axes(tensor: Tensor) -> Iterator[tuple[int, int]]:
    """Sizes and strides in bytes of the axes that have both, from the inside out."""
    pairs = zip(tensor.stride(), tensor.shape, strict=True)
    for stride, size in sorted((stride, size) for stride, size in pairs if stride and size > 1):
        yield size, stride * tensor.element_size()
