"""The sizes of a model in a folder, from the headers of its files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from holo_lite.config import Expert
from holo_lite.eightbit.limits import FP32
from holo_lite.errors import CheckpointError
from holo_lite.film.vae_files import diffusers_names, vae_file
from holo_lite.lora.adaptation import Adaptation
from holo_lite.model.load import expert_config, own_names
from holo_lite.plan.decoding import Decoder
from holo_lite.plan.sizes import (
    ENCODER_BLOCK,
    EXPERT_BLOCK,
    PLAIN_SCHEME,
    ModelSizes,
    StackSizes,
    StoredWeight,
    stack_sizes,
)
from holo_lite.text.encoder_files import EMBEDDING, describe_encoder, encoder_file, module_names
from holo_lite.text.encoder_sizes import EncoderSizes
from holo_lite.weights.converted import ConvertedFile, packed_schemes
from holo_lite.weights.files import open_weights
from holo_lite.weights.folder import ModelFolder
from holo_lite.weights.manifest import FILE_NAME, PLAIN, read_manifest
from holo_lite.weights.weight_file import TensorEntry, WeightFile

VAE_WIDTH = "decoder.norm_out.gamma"  # by diffusers' name
BF16 = 2  # bytes


def folder_sizes(
    folder: ModelFolder,
    bytes_per_number: int | None = None,
    adapters: Mapping[Expert, Adaptation] | None = None,
) -> ModelSizes:
    """Work out the sizes of the model in a folder, converted or as released. Reads headers only.

    `bytes_per_number` is of the compute dtype; None: fp32 for an expert stored wholly so, else bf16. `adapters` are
    added to experts as they run.
    Raises `CheckpointError` for a file that is missing, damaged, or of another network.
    """
    high = open_weights(folder.high_noise)
    computed = bytes_per_number or (FP32 if _is_fp32(high) else BF16)
    encoder, text = _encoder(folder.text_encoder, computed)
    added = adapters or {}
    return ModelSizes(
        scheme=_scheme(folder.path, high),
        config=expert_config(high),
        high_noise=expert_sizes(high, computed, added.get("high_noise")),
        low_noise=expert_sizes(open_weights(folder.low_noise), computed, added.get("low_noise")),
        encoder=encoder,
        text=text,
        decoder=Decoder(_vae_width(folder.vae), computed),
        bytes_per_number=computed,
    )


def _is_fp32(file: WeightFile) -> bool:
    return {entry.dtype for entry in file.entries.values()} == {torch.float32}


def _scheme(folder: Path, expert: WeightFile) -> str:
    if (folder / FILE_NAME).is_file():
        return read_manifest(folder).scheme
    return "fp32" if _is_fp32(expert) else PLAIN_SCHEME


def expert_sizes(file: WeightFile, computed: int, adapters: Adaptation | None = None) -> StackSizes:
    """Sizes of one expert, given the bytes of a computed number, with its adapters. Reads only the header."""
    weights = _weights(file, own_names(file), computed)
    if adapters is None:
        return stack_sizes(weights, EXPERT_BLOCK)
    stack = stack_sizes((_adapted(weight, adapters, computed) for weight in weights), EXPERT_BLOCK)
    return dataclasses.replace(stack, adapters=adapters.nbytes(computed))


def _adapted(weight: StoredWeight, adapters: Adaptation, computed: int) -> StoredWeight:
    """A weight, and what its adapters need in addition."""
    if weight.name in adapters.changes:
        changed = 0 if weight.cast else math.prod(adapters.shapes[weight.name]) * computed
        weight = dataclasses.replace(weight, changed=changed)
    if weight.name in adapters.pairs:
        remade = 0 if weight.packed_numbers else math.prod(adapters.shapes[weight.name])
        weight = dataclasses.replace(weight, remade=remade, factors=adapters.factors(weight.name, computed))
    return weight


def _encoder(path: Path, computed: int) -> tuple[EncoderSizes, StackSizes]:
    """The token embedding is left out: it stays on the host."""
    file = open_weights(encoder_file(path))
    found = _weights(file, module_names(file.entries), computed)
    weights = (weight for weight in found if weight.name != EMBEDDING)
    return describe_encoder(file).sizes, stack_sizes(weights, ENCODER_BLOCK)


def _weights(file: WeightFile, renames: Mapping[str, str], computed: int) -> Iterator[StoredWeight]:
    """The stored tensors by the model's names; the parts of a packed one come as one."""
    packed = packed_schemes(file)
    owners = {f"{name}.": name for name in packed}
    parts: dict[str, list[TensorEntry]] = {}
    for name, entry in file.entries.items():
        owner = owners.get(f"{name.rpartition('.')[0]}.", name)
        parts.setdefault(owner, []).append(entry)
    for name, entries in parts.items():
        sizes = tuple(entry.nbytes for entry in entries)
        shape = _packed_shape(file, name) if name in packed else entries[0].shape
        numbers = math.prod(shape) if name in packed else 0
        cast = 0 if numbers else _cast(entries[0], computed)
        own = renames.get(name, name)
        yield StoredWeight(own, sizes, numbers, cast, shape=shape, scheme=packed.get(name, PLAIN))


def _cast(entry: TensorEntry, computed: int) -> int:
    """Bytes of a plain tensor in the computing dtype; 0 if it is stored in that."""
    stored = entry.dtype.itemsize
    return 0 if stored == computed else entry.nbytes // stored * computed


def _packed_shape(file: WeightFile, name: str) -> tuple[int, ...]:
    assert isinstance(file, ConvertedFile), "only converted files hold packed weights"
    return file.packed[name].shape


def _vae_width(path: Path) -> int:
    file = open_weights(vae_file(path))
    shapes = {new: file.entries[old].shape for old, new in diffusers_names(file.entries).items()}
    if VAE_WIDTH not in shapes:
        raise CheckpointError(f"{file.path}: is not the Wan 2.1 VAE: it lacks {VAE_WIDTH}")
    return shapes[VAE_WIDTH][0]
