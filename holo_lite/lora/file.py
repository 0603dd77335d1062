"""Adapters, as they come in files.

A LoRA adds to a weight W the product of two thin matrices: W + strength · (alpha / rank) · up @ down. Some
files add whole differences too, of a weight (``.diff``), a bias (``.diff_b``) or a modulation (``.diff_m``).
Everyone who writes such files names their tensors differently; `holo_lite.lora.keys` reads the names. Here
they are grouped by the tensor of the model that they change, and computed, a slice of rows at a time if need be.
`holo-lite quantize` merges them into an expert before it is made small; `adaptation` says how a run adds them.

A key that matches nothing is an error: an adapter of another model, half of whose keys happen to fit, makes
pictures that are wrong without a visible cause.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.errors import CheckpointError, first_three
from holo_lite.lora.alpha import DeclaredAlphas, declared_alphas
from holo_lite.lora.keys import Key, Role, parse_key
from holo_lite.weights.files import open_weights
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


def open_lora(path: Path, strength: float = 1.0) -> Lora:
    """Open an adapter in the names of kohya's tools, of diffusers and peft, or of lightx2v.

    Only names, shapes and alphas are read. Raises `CheckpointError` for a damaged or empty file, keys of a kind
    not known here, half a pair, and two tensors for one place.
    """
    file = open_weights(path)
    if not file.entries:
        raise CheckpointError(f"{path}: holds no tensors; download it again")
    parsed = {key: parse_key(key) for key in file.entries}
    if strange := [key for key, part in parsed.items() if part is None]:
        raise CheckpointError(
            f"{path}: holds {first_three(strange)}, which is not a LoRA format that holo-lite knows; merge it first"
        )
    if odd := [key for key, part in parsed.items() if part and part.role != "alpha" and not _is_float(file, key)]:
        raise CheckpointError(f"{path}: {first_three(odd)} holds no floating-point numbers; get another conversion")
    places: dict[Key, str] = {}
    for key, place in parsed.items():
        if place is not None and places.setdefault(place, key) != key:
            raise CheckpointError(
                f"{path}: {places[place]} and {key} are for the same weight; give a file with one LoRA"
            )
    terms: dict[str, tuple[Term, ...]] = {}
    for target, term in _terms(file, places):
        terms[target] = (*terms.get(target, ()), term)
    return Lora(file, strength, terms)


def _terms(file: WeightFile, places: Mapping[Key, str]) -> Iterator[tuple[str, Term]]:
    """Every tensor of the model that is changed, and what is added to it."""
    modules: dict[str, dict[Role, str]] = {}
    for place, key in places.items():
        modules.setdefault(place.module, {})[place.role] = key
    ranks = {shape[0] for keys in modules.values() if "down" in keys and (shape := _shape_of(file, keys["down"]))}
    declared = declared_alphas(file.path, ranks)
    for module, keys in modules.items():
        yield from _low_rank(file, module, keys, declared)
        for role, part in (("diff", "weight"), ("diff_b", "bias"), ("diff_m", "modulation")):
            if role in keys:
                yield f"{module}.{part}", Term(keys[role])


def _low_rank(
    file: WeightFile, module: str, keys: Mapping[Role, str], declared: DeclaredAlphas
) -> Iterator[tuple[str, Term]]:
    if not keys.keys() & {"up", "down", "up_bias", "alpha"}:
        return
    if not keys.keys() >= {"up", "down"}:
        raise CheckpointError(
            f"{file.path}: holds {first_three(keys.values())} without its pair; download it again"
        )
    rank = file.entries[keys["down"]].shape[:1]
    alpha = _number(file, keys["alpha"]) if "alpha" in keys else declared.of(keys["down"])
    if not rank or not rank[0] or (alpha is not None and not math.isfinite(alpha)):
        raise CheckpointError(f"{file.path}: the rank or the alpha of {keys['down']} is damaged; download it again")
    scale = 1.0 if alpha is None else alpha / rank[0]
    yield f"{module}.weight", Term(keys["up"], scale, keys["down"])
    if "up_bias" in keys:
        yield f"{module}.bias", Term(keys["up_bias"], scale)


def _is_float(file: WeightFile, key: str) -> bool:
    return file.entries[key].dtype.is_floating_point


def _shape_of(file: WeightFile, key: str) -> tuple[int, ...]:
    return file.entries[key].shape


def _number(file: WeightFile, key: str) -> float:
    """A tensor of one number; NaN for anything else."""
    entry = file.entries[key]
    return float(file.load(key)) if math.prod(entry.shape) == 1 and not entry.dtype.is_complex else math.nan
