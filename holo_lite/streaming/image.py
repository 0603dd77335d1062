"""A block as one run of bytes: where they are on disk, and which tensors they become in memory.

In a converted model a block is one piece of one file. In the released files its tensors may lie apart; then it is
several pieces, and comes to the same image in the end. An image is read whole, moved whole, and looked at through
views: no tensor of it is ever moved alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.errors import CheckpointError
from holo_lite.weights.alignment import aligned
from holo_lite.weights.calls import PlacedFile
from holo_lite.weights.weight_file import TensorEntry, WeightFile

STRICT = 16  # bytes; the least alignment of a tensor that matrix kernels are fast on
GAP = 65_536  # bytes up to which a gap is read along, not skipped


Tensors = tuple[str, Path, int, TensorEntry]  # a tensor's name, its file, its place there, its kind


@dataclass(frozen=True)
class Piece:
    """Bytes that lie together: from `offset` in a file to `place` in the image."""

    path: Path
    offset: int
    nbytes: int
    place: int


@dataclass(frozen=True)
class View:
    """A tensor of the block, by its name within the block."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    place: int


@dataclass(frozen=True)
class BlockImage:
    """A block's bytes: what to read, and how to look at them."""

    pieces: tuple[Piece, ...]
    views: tuple[View, ...]
    nbytes: int

    def tensors(self, buffer: Tensor) -> dict[str, Tensor]:
        """The block's tensors as views into a buffer of bytes that holds the image."""
        return {view.name: _view(buffer, view) for view in self.views}


@dataclass(frozen=True)
class Images:
    """A network's bytes: an image for each of its blocks, and one for what belongs to none."""

    blocks: tuple[BlockImage, ...]
    rest: BlockImage


def network_images(file: WeightFile, renames: Mapping[str, str], prefix: str, count: int) -> Images:
    """Images of the blocks ``PREFIX.0`` … of a file, by the model's names, and of the rest.

    Raises `CheckpointError` for a file whose tensors cannot be read in place: GGUF, whose numbers must be unpacked.
    """
    if not isinstance(file, PlacedFile):
        raise CheckpointError(
            f"{file.path}: its tensors cannot be read in place; convert it with holo-lite quantize"
        )
    blocks: list[list[Tensors]] = [[] for _ in range(count)]
    rest: list[Tensors] = []
    for name, entry in file.entries.items():
        own = renames.get(name, name)
        if own.startswith(f"{prefix}."):
            index, _, inside = own.removeprefix(f"{prefix}.").partition(".")
            blocks[int(index)].append((inside, *file.place(name), entry))
        else:
            rest.append((own, *file.place(name), entry))
    return Images(tuple(_image(tensors) for tensors in blocks), _image(rest))


def _image(tensors: Sequence[Tensors]) -> BlockImage:
    """Put tensors into as few pieces as their places allow."""
    pieces: list[Piece] = []
    views: list[View] = []
    end = 0
    for name, path, offset, entry in sorted(tensors, key=lambda tensor: (str(tensor[1]), tensor[2])):
        last = pieces[-1] if pieces else None
        if last is None or not _joins(last, path, offset):
            last = Piece(path, offset, 0, aligned(end))
            pieces.append(last)
        pieces[-1] = Piece(path, last.offset, offset + entry.nbytes - last.offset, last.place)
        place = last.place + offset - last.offset
        views.append(View(name, entry.shape, entry.dtype, place))
        end = place + entry.nbytes
    return BlockImage(tuple(pieces), tuple(views), end)


def _joins(piece: Piece, path: Path, offset: int) -> bool:
    """Whether a tensor can be read along with a piece and come to lie where kernels want it."""
    gap = offset - (piece.offset + piece.nbytes)
    return piece.path == path and 0 <= gap <= GAP and (offset - piece.offset) % STRICT == 0


def _view(buffer: Tensor, view: View) -> Tensor:
    count = torch.Size(view.shape).numel()
    rows = buffer[view.place : view.place + count * view.dtype.itemsize]
    return rows.view(view.dtype).view(view.shape)


def largest(images: Iterable[BlockImage]) -> int:
    """Bytes a buffer needs to hold any of the images."""
    return max(image.nbytes for image in images)
