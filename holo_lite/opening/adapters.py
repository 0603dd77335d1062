"""Adapters that are added to a model as it runs: found, checked and recorded before any weight is read.

`holo-lite quantize` merges adapters once and for all; here the model stays what it is, and a run says what it adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from holo_lite.config import Expert
from holo_lite.lora.adaptation import Adaptation
from holo_lite.lora.file import open_lora
from holo_lite.lora.notes import name_notes
from holo_lite.lora.terms import Lora
from holo_lite.model.load import own_names
from holo_lite.opening.given import Loras
from holo_lite.settings import AddedLora
from holo_lite.weights.files import open_weights
from holo_lite.weights.folder import ModelFolder
from holo_lite.weights.manifest import is_converted, read_manifest
from holo_lite.weights.weight_file import WeightFile

DIGITS = 16  # of a fingerprint


@dataclass(frozen=True)
class Adapters:
    """What is added to which expert, the record of it, and what a person should know of it."""

    by_expert: Mapping[Expert, Adaptation] = field(default_factory=dict)
    record: tuple[AddedLora, ...] = ()
    notes: tuple[str, ...] = ()


def open_adapters(
    folder: ModelFolder, loras: Loras, experts: Mapping[Expert, WeightFile] | None = None
) -> Adapters:
    """Open adapters for the experts of a folder; all their numbers are read once.

    `experts` are the experts' files, where they are open already.
    Raises `CheckpointError` for a file that is not a LoRA of this model, that holds NaN or Inf, or that changes
    what can only be changed by merging.
    """
    opened = {
        expert: [open_lora(Path(file), strength) for file, strength in given] for expert, given in loras.items()
    }
    files = experts or {expert: open_weights(folder.experts[expert]) for expert in opened}
    found = {expert: _adaptation(files[expert], given) for expert, given in opened.items()}
    return Adapters(
        {expert: adaptation for expert, adaptation in found.items() if not adaptation.is_empty},
        tuple(_recorded(expert, lora) for expert, given in opened.items() for lora in given),
        (*_names(opened), *_merged_before(folder, loras)),
    )


def _adaptation(expert: WeightFile, loras: Sequence[Lora]) -> Adaptation:
    adaptation = Adaptation.of(loras, expert, own_names(expert))
    adaptation.check_numbers()
    return adaptation


def _recorded(expert: Expert, lora: Lora) -> AddedLora:
    name = "".join(letter if letter.isprintable() else "?" for letter in lora.path.name)
    return AddedLora(expert, name, lora.file.fingerprint[:DIGITS], lora.strength)


def _names(opened: Mapping[Expert, Sequence[Lora]]) -> Iterator[str]:
    """Notes about names that say another use."""
    for expert, given in opened.items():
        for lora in given:
            yield from name_notes(lora.path, expert)


def _merged_before(folder: ModelFolder, experts: Iterable[Expert]) -> Iterator[str]:
    """Notes about experts that had adapters merged into them when they were converted."""
    if not is_converted(folder.high_noise):
        return
    merged = read_manifest(folder.path).loras
    for expert in experts:
        if names := merged.get(expert):
            yield f"{expert} was converted with {', '.join(names)} merged in; what --lora gives is added to that"
