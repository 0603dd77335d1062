"""What adapters add to one expert at run time, and how: merging without a merged model.

A pair of factors for a linear layer's weight stays a pair: their product is added whenever the weight is made ready
(`low_rank`). Pairs of several adapters for one weight become one, of the sum of their ranks. Whatever else a file
adds, to a bias, a norm, a modulation, the patch embedding, is added to the tensor itself whenever that is put in
place, which costs next to nothing while it is small.

Merged and added weights are the same to rounding, where weights are stored plainly. Where they are packed, merging
comes before packing and adding behind unpacking, so the adapter's own numbers are never packed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from holo_lite.errors import CheckpointError, first_three
from holo_lite.lora.terms import Lora, Shapes, Term
from holo_lite.weights.alignment import aligned
from holo_lite.weights.converted import packed_schemes, stored_shapes
from holo_lite.weights.finite import check_finite
from holo_lite.weights.weight_file import WeightFile

LARGEST = 2**22  # numbers of a tensor that is changed whole; larger ones, in every visit, would cost time
CHANGE = torch.float32  # what whole changes are kept in

Share = tuple[Lora, Term]  # a term, and the adapter whose it is


@dataclass(frozen=True)
class Adaptation:
    """What one or more adapters do to one expert, by the names of its tensors.

    `pairs` belong to weights of linear layers; `changes` are all other tensors that change.
    """

    shapes: Shapes
    pairs: Mapping[str, tuple[Share, ...]]
    changes: Mapping[str, tuple[Share, ...]]

    @classmethod
    def of(cls, loras: Sequence[Lora], expert: WeightFile, renames: Mapping[str, str]) -> Adaptation:
        """Match adapters with an expert's file; `renames` maps its names to the model's.

        An adapter of strength 0 adds nothing. Raises `CheckpointError` for one that does not fit, or that changes a
        tensor which can only be changed once and for all.
        """
        shapes = {renames.get(name, name): shape for name, shape in stored_shapes(expert).items()}
        packed = packed_schemes(expert)
        pairs: dict[str, tuple[Share, ...]] = {}
        changes: dict[str, tuple[Share, ...]] = {}
        for lora in loras:
            lora.check(shapes)
            for name, term in _effective(lora):
                table = pairs if term.down is not None and len(shapes[name]) == 2 else changes
                table[name] = (*table.get(name, ()), (lora, term))
            _check_changes(lora, {name: shapes[name] for name in changes}, packed)
        return cls(shapes, pairs, changes)

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not self.pairs and not self.changes

    def rank(self, name: str) -> int:
        """Rank of all pairs for a weight together."""
        return sum(lora.file.entries[term.key].shape[1] for lora, term in self.pairs[name])

    def factors(self, name: str, itemsize: int) -> int:
        """Bytes that a weight's factors take on a device, given the bytes of a number."""
        rows, columns = self.shapes[name]
        rank = self.rank(name)
        return aligned(rows * rank * itemsize) + aligned(rank * columns * itemsize)

    def nbytes(self, itemsize: int) -> int:
        """Bytes of host memory that all of it takes, given the bytes of a factor's number."""
        whole = sum(aligned(math.prod(self.shapes[name]) * CHANGE.itemsize) for name in self.changes)
        return whole + sum(self.factors(name, itemsize) for name in self.pairs)

    def check_numbers(self) -> None:
        """Read every number once. Raises `CheckpointError` for NaN or Inf."""
        for name, shares in (*self.pairs.items(), *self.changes.items()):
            for lora, term in shares:
                for key in term.keys:
                    check_finite(lora.file.load(key).float(), f"{lora.path}: what it adds to {name}")

    def fill_factors(self, name: str, up: Tensor, down: Tensor) -> float:
        """Write a weight's factors into `up` (out, r) and `down` (r, in), and give what scales their product.

        It is the largest adapter's own scale; the others' relation to it is multiplied into their `up`.
        """
        largest = max(map(_scale, self.pairs[name]), key=abs)
        column = 0
        for share in self.pairs[name]:
            lora, term = share
            assert term.down is not None, "pairs have two factors"
            above, below = lora.file.load(term.key).flatten(1), lora.file.load(term.down)
            rows = slice(column, column + len(below))
            relation = _scale(share) / largest
            up[:, rows] = above if relation == 1 else above.float() * relation
            down[rows] = below
            column = rows.stop
        return largest

    def fill_change(self, name: str, out: Tensor) -> None:
        """Write the sum of what is added to a tensor into `out`, float32."""
        out.zero_()
        for lora, term in self.changes[name]:
            out += lora.value(term)


def _effective(lora: Lora) -> Iterator[tuple[str, Term]]:
    """The terms of an adapter that add something."""
    for name, terms in lora.terms.items():
        yield from ((name, term) for term in terms if lora.strength * term.scale)


def _scale(share: Share) -> float:
    lora, term = share
    return lora.strength * term.scale


def _check_changes(lora: Lora, shapes: Shapes, packed: Iterable[str]) -> None:
    """Refuse whole differences of packed weights and of large ones, which would have to be kept dense."""
    wrong = [name for name, shape in shapes.items() if name in lora.terms and _is_fixed(name, shape, packed)]
    if wrong:
        raise CheckpointError(
            f"{lora.path}: has full-weight differences for {first_three(wrong)}, which cannot be added at run "
            "time; merge it with holo-lite quantize --lora"
        )


def _is_fixed(name: str, shape: tuple[int, ...], packed: Iterable[str]) -> bool:
    return name in packed or math.prod(shape) > LARGEST
