"""The sizes of a model in a folder, from the headers of its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from holo_lite.errors import CheckpointError
from holo_lite.model.load import expert_config, own_names
from holo_lite.model.memory import FP32
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
from holo_lite.text.encoder_files import EMBEDDING, EncoderSizes, describe_encoder, encoder_file, module_names
from holo_lite.weights.converted import ConvertedFile, packed_schemes
from holo_lite.weights.files import open_weights
from holo_lite.weights.folder import ModelFolder
from holo_lite.weights.header import TensorEntry
from holo_lite.weights.manifest import FILE_NAME, read_manifest
from holo_lite.weights.weight_file import WeightFile

VAE_WEIGHTS = "diffusion_pytorch_model.safetensors"
VAE_WIDTH = ("decoder.head.0.gamma", "decoder.norm_out.gamma")  # in the original naming and in diffusers'
BF16 = 2  # bytes


def folder_sizes(folder: ModelFolder, bytes_per_number: int | None = None) -> ModelSizes:
    """Work out the sizes of the model in a folder, converted or as released. Reads headers only.

    `bytes_per_number` is of the compute dtype; None: fp32 for an expert stored wholly so, else bf16.
    Raises `CheckpointError` for a file that is missing, damaged, or of another network.
    """
    high = open_weights(folder.high_noise)
    computed = bytes_per_number or (FP32 if _is_fp32(high) else BF16)
    encoder, text = _encoder(folder.text_encoder, computed)
    return ModelSizes(
        scheme=_scheme(folder.path, high),
        config=expert_config(high),
        high_noise=_expert(high, computed),
        low_noise=_expert(open_weights(folder.low_noise), computed),
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


def _expert(file: WeightFile, computed: int) -> StackSizes:
    return stack_sizes(_weights(file, own_names(file), computed), EXPERT_BLOCK)


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
        numbers = _numbers(file, name) if name in packed else 0
        cast = 0 if numbers else _cast(entries[0], computed)
        yield StoredWeight(renames.get(name, name), sizes, numbers, cast)


def _cast(entry: TensorEntry, computed: int) -> int:
    """Bytes of a plain tensor in the computing dtype; 0 if it is stored in that."""
    stored = entry.dtype.itemsize
    return 0 if stored == computed else entry.nbytes // stored * computed


def _numbers(file: WeightFile, name: str) -> int:
    assert isinstance(file, ConvertedFile), "only converted files hold packed weights"
    rows, columns = file.packed[name].shape
    return rows * columns


def _vae_width(path: Path) -> int:
    file = open_weights(path / VAE_WEIGHTS if path.is_dir() else path)
    for name in VAE_WIDTH:
        if name in file.entries:
            return file.entries[name].shape[0]
    raise CheckpointError(f"{file.path}: is not the Wan 2.1 VAE: it lacks {VAE_WIDTH[0]}")
