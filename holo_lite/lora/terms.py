"""What an adapter adds, by the tensors of the model that it changes.

A LoRA adds to a weight W the product of two thin matrices: W + strength · (alpha / rank) · up @ down. Some
files add whole differences too, of a weight (``.diff``), a bias (``.diff_b``) or a modulation (``.diff_m``).
It is computed here, a slice of rows at a time if need be. `holo-lite quantize` merges it into an expert before that
is made small; `adaptation` says how a run adds it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.errors import CheckpointError, first_three
from holo_lite.weights.finite import check_finite
from holo_lite.weights.weight_file import EVERYTHING, WeightFile

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Term:
    """Something that is added, times `scale`: the file's tensor `key`, or if `down` is one, key @ down."""

    key: str
    scale: float = 1.0
    down: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The tensors it is made of."""
        return (self.key,) if self.down is None else (self.key, self.down)


@dataclass(frozen=True)
class Lora:
    """One adapter file at one strength. `terms` says what is added to which tensor of the model."""

    file: WeightFile
    strength: float
    terms: Mapping[str, tuple[Term, ...]]

    @property
    def path(self) -> Path:
        """The file's path."""
        return self.file.path

    def check(self, shapes: Shapes) -> None:
        """Hold it against a model's tensors, by name.

        Raises `CheckpointError` that names three keys, if there are that many, that match nothing in the model
        or do not fit what they match.
        """
        unknown = [key for name in self.terms if name not in shapes for t in self.terms[name] for key in t.keys]
        if unknown:
            raise CheckpointError(
                f"{self.path}: nothing in the model matches {first_three(unknown)}; "
                "give a LoRA for Wan 2.2 T2V A14B"
            )
        wrong = [
            f"{' with '.join(term.keys)} does not fit {name} of {list(shapes[name])}"
            for name, terms in self.terms.items()
            for term in terms
            if self._shape(term) != shapes[name]
        ]
        if wrong:
            raise CheckpointError(f"{self.path}: is not a LoRA for this model: {first_three(wrong)}")

    def delta(self, name: str, rows: slice = EVERYTHING) -> Tensor | None:
        """What to add to a tensor, or to `rows` of it: float32, of its shape. None where it changes nothing.

        Raises `CheckpointError` for NaN or Inf. Call `check` first.
        """
        total: Tensor | None = None
        for term in self.terms.get(name, ()):
            added = self.value(term, rows)
            total = added if total is None else total.add_(added)
        if total is not None:
            check_finite(total, f"{self.path}: what it adds to {name}")
        return total

    def value(self, term: Term, rows: slice = EVERYTHING) -> Tensor:
        """One term, or `rows` of it: float32, of the shape of the tensor that it changes."""
        first = self.file.load(term.key, rows).float() * (self.strength * term.scale)
        if term.down is None:
            return first
        down = self.file.load(term.down).float()
        return torch.mm(first.flatten(1), down.flatten(1)).view(first.shape[0], *down.shape[1:])

    def _shape(self, term: Term) -> tuple[int, ...] | None:
        """The shape of what is added; None for factors that do not fit each other."""
        shape = self.file.entries[term.key].shape
        if term.down is None:
            return shape
        down = self.file.entries[term.down].shape
        fits = len(shape) > 1 and len(down) > 1 and shape[1] == down[0] and math.prod(shape[2:]) == 1
        return (shape[0], *down[1:]) if fits else None
