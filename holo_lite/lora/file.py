"""Adapter files, by whomever they were written.

Everyone who writes such files names their tensors differently; `holo_lite.lora.keys` reads the names. Here they are
grouped by the tensor of the model that they change (`holo_lite.lora.terms`).

A key that matches nothing is an error: an adapter of another model, half of whose keys happen to fit, makes
pictures that are wrong without a visible cause.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from holo_lite.errors import CheckpointError, first_three
from holo_lite.lora.alpha import DeclaredAlphas, declared_alphas
from holo_lite.lora.keys import Key, Role, parse_key
from holo_lite.lora.terms import Lora, Term
from holo_lite.weights.files import open_weights
from holo_lite.weights.weight_file import WeightFile


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
