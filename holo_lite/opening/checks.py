"""The parts of a model: that they belong together, which they are, and in what precision they compute.

All of it from names, shapes and samples: no weight is read.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from holo_lite.errors import CheckpointError, SettingsError
from holo_lite.film.vae_files import check_vae
from holo_lite.model.load import check_expert
from holo_lite.streaming.image import PlacedFile
from holo_lite.text.encoder_shapes import check_text_encoder
from holo_lite.weights.converted import ConvertedFile
from holo_lite.weights.files import open_weights
from holo_lite.weights.folder import ModelFolder, fingerprint
from holo_lite.weights.manifest import is_converted

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def check_parts(folder: ModelFolder) -> None:
    """Check every network by names and shapes, and that they belong together."""
    high, low = check_expert(folder.high_noise), check_expert(folder.low_noise)
    if high != low:
        raise CheckpointError(
            f"{folder.low_noise}: has other sizes than {folder.high_noise.name}; use one model's files"
        )
    for path in (folder.high_noise, folder.low_noise):
        if not isinstance(open_weights(path), PlacedFile):
            raise CheckpointError(
                f"{path}: is packed in a form that cannot run directly; convert it with holo-lite quantize"
            )
    width = check_text_encoder(folder.text_encoder)
    if width != high.text_dim:
        raise CheckpointError(
            f"{folder.text_encoder}: gives rows of {width} numbers, the experts read {high.text_dim}; "
            "use the text encoder the experts came with"
        )
    check_vae(folder.vae)


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
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    return open_weights(path).fingerprint
