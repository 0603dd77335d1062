"""The parts of a model: that they belong together, which they are, and in what precision they compute.

`find_model` is how every command opens a model, so that what one takes no other refuses. All of it from names,
shapes and samples: no weight is read.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from holo_lite.config import Attention
from holo_lite.errors import CheckpointError, SettingsError
from holo_lite.film.vae_files import check_vae
from holo_lite.model.load import check_expert
from holo_lite.reading.files import read_bytes
from holo_lite.text.encoder_files import encoder_file
from holo_lite.text.encoder_shapes import check_text_encoder
from holo_lite.text.vocabulary import check_tokenizer
from holo_lite.tiny.model import is_name, tiny_model
from holo_lite.weights.calls import PlacedFile
from holo_lite.weights.converted import ConvertedFile
from holo_lite.weights.files import open_weights
from holo_lite.weights.folder import ModelFolder, fingerprint, open_folder
from holo_lite.weights.manifest import is_converted
from holo_lite.weights.scaled import is_scaled

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def find_model(path: Path, attention: Attention | None = None) -> ModelFolder:
    """Find the files of a model in a folder and prove that each is part of it; it need not be one that can run.

    The built-in model is found by its name, holo-tiny. `attention` as for `open_folder`. Raises `CheckpointError`.
    """
    folder = open_folder(tiny_model() if is_name(path) else path, attention)
    check_parts(folder)
    return folder


def check_parts(folder: ModelFolder) -> None:
    """Prove every part, and that they belong together.

    The experts by their tensors and channels, the text encoder by its tensors and the width of its rows, the
    tokenizer by its vocabulary, the VAE by its tensors and latents. Raises `CheckpointError`.
    """
    high, low = check_expert(folder.high_noise), check_expert(folder.low_noise)
    if high != low:
        raise CheckpointError(
            f"{folder.low_noise}: has other sizes than {folder.high_noise.name}; use one model's files"
        )
    text = check_text_encoder(folder.text_encoder)
    if text.d_model != high.text_dim:
        raise CheckpointError(
            f"{folder.text_encoder}: gives rows of {text.d_model} numbers, the experts read {high.text_dim}; "
            "use the text encoder the experts came with"
        )
    check_vae(folder.vae)
    check_tokenizer(folder.tokenizer, text.vocabulary)


def check_runnable(folder: ModelFolder) -> None:
    """Refuse a model that must be converted before it can run: GGUF experts, and weights in 8 bits with scales."""
    for path in (folder.high_noise, folder.low_noise, encoder_file(folder.text_encoder)):
        file = open_weights(path)
        is_gguf_expert = path in folder.experts.values() and not isinstance(file, PlacedFile)
        if is_gguf_expert or is_scaled(file):
            raise CheckpointError(
                f"{path}: is packed in a form that cannot run directly; convert it with holo-lite quantize"
            )


def model_fingerprint(folder: ModelFolder) -> str:
    """A short name for the weights of a model, the same for a copy elsewhere."""
    return fingerprint(map(_identity, folder.weight_paths))


def dtype_name(dtype: torch.dtype) -> str:
    """How settings name a compute dtype."""
    return next(name for name, known in DTYPES.items() if known == dtype)


def pick_dtype(name: str, expert: Path) -> torch.dtype:
    """Return the compute dtype: fp32 where asked for or where the expert is stored so, else bf16."""
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise SettingsError(f"dtype '{name}': give auto, bf16 or fp32")
    file = open_weights(expert)
    if isinstance(file, ConvertedFile):
        before = {tensor.dtype for tensor in file.component.tensors.values()}
        return torch.float32 if before == {"float32"} else torch.bfloat16
    stored = {entry.dtype for entry in file.entries.values()}
    return torch.float32 if stored == {torch.float32} else torch.bfloat16


def _identity(path: Path) -> str:
    """The fingerprint of one part of the model: a file of weights, a folder of them, or the tokenizer."""
    if is_converted(path):
        return open_weights(path).fingerprint
    if path.is_dir():
        return "".join(open_weights(file).fingerprint for file in sorted(path.glob("*.safetensors")))
    if path.suffix == ".json" and not path.name.endswith(".index.json"):
        try:
            return hashlib.sha256(read_bytes(path)).hexdigest()
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    return open_weights(path).fingerprint
