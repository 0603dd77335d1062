"""Text encoder files: three layouts, one naming.

People hold umt5-xxl as the original ``models_t5_umt5-xxl-enc-bf16.pth``, as safetensors in the same names,
or as a diffusers ``text_encoder/`` folder in transformers' names, whole or in shards. `open_encoder` makes
them one: every tensor by its name in transformers' `UMT5EncoderModel`, and the sizes of the network read
off the shapes. Only headers are read here, so a wrong file is reported before anything is loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from holo_lite.errors import CheckpointError
from holo_lite.weights.converted import stored_shapes
from holo_lite.weights.files import WeightFile, open_weights
from holo_lite.weights.manifest import is_converted
from holo_lite.weights.weight_file import Excerpt

WHAT = "a umt5 text encoder"
FOLDER_FILES = ("model.safetensors.index.json", "model.safetensors")
EMBEDDING = "shared.weight"  # in transformers' naming
EMBEDDING_NAMES = ("token_embedding.weight", EMBEDDING, "encoder.embed_tokens.weight")
FIXED = {  # what shapes do not show; a config.json next to the weights must agree
    "model_type": "umt5",
    "feed_forward_proj": "gated-gelu",
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
}
RENAMES = (  # original names to transformers'
    (r"^blocks\.(\d+)\.norm1\.", r"encoder.block.\1.layer.0.layer_norm."),
    (r"^blocks\.(\d+)\.attn\.([qkvo])\.", r"encoder.block.\1.layer.0.SelfAttention.\2."),
    (
        r"^blocks\.(\d+)\.pos_embedding\.embedding\.",
        r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias.",
    ),
    (r"^blocks\.(\d+)\.norm2\.", r"encoder.block.\1.layer.1.layer_norm."),
    (r"^blocks\.(\d+)\.ffn\.gate\.0\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_0."),
    (r"^blocks\.(\d+)\.ffn\.fc1\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_1."),
    (r"^blocks\.(\d+)\.ffn\.fc2\.", r"encoder.block.\1.layer.1.DenseReluDense.wo."),
    (r"^norm\.", r"encoder.final_layer_norm."),
)

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class EncoderSizes:
    """The sizes of the network, read from the shapes."""

    vocabulary: int
    d_model: int
    d_ff: int
    d_kv: int
    heads: int
    layers: int
    buckets: int


@dataclass(frozen=True)
class EncoderSource:
    """An opened text encoder: its layers and their names in the module, its embedding's name, its sizes.

    The token embedding is not part of the module, nor of the layers.
    """

    layers: Excerpt
    renames: Mapping[str, str]
    embedding: str
    sizes: EncoderSizes


def encoder_file(path: Path) -> Path:
    """Return the file that holds, or indexes, the weights of a text encoder given as a file or a folder.

    Raises `CheckpointError` for a folder without one.
    """
    if not path.is_dir() or is_converted(path):
        return path
    for name in FOLDER_FILES:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"{path}: holds no {' or '.join(FOLDER_FILES)}; name the text_encoder folder")


def open_encoder(path: Path) -> EncoderSource:
    """Open a text encoder in any layout: a file, a shard index, or a diffusers folder.

    Raises `CheckpointError` for a missing or damaged file, for one that is not a umt5 encoder, and for a
    ``config.json`` of another kind of encoder.
    """
    source = describe_encoder(open_weights(encoder_file(path)))
    if path.is_dir():
        _check_config(path / "config.json")
    return source


def describe_encoder(file: WeightFile) -> EncoderSource:
    """Find layers, embedding and sizes in a file. Raises `CheckpointError` if it is not a umt5 encoder."""
    logical = stored_shapes(file)
    embeddings = [name for name in EMBEDDING_NAMES if name in logical]
    if not embeddings:
        raise CheckpointError(f"{file.path}: is not {WHAT}: it lacks {' or '.join(EMBEDDING_NAMES[:2])}")
    layers = Excerpt(file, {name: entry for name, entry in file.entries.items() if name not in embeddings})
    renames = {name: _module_name(name) for name in layers.entries}
    shapes = {_module_name(name): shape for name, shape in logical.items()}
    sizes = _sizes(file.path, logical[embeddings[0]], shapes)
    return EncoderSource(layers, renames, embeddings[0], sizes)


def module_names(names: Iterable[str]) -> dict[str, str]:
    """Map the names in a file, in either naming, to transformers' names."""
    return {name: EMBEDDING if name in EMBEDDING_NAMES else _module_name(name) for name in names}


def _module_name(name: str) -> str:
    """The name in transformers' module of a tensor in either naming."""
    for original, ours in RENAMES:
        name = re.sub(original, ours, name)
    return name


def _sizes(path: Path, embedding: tuple[int, ...], shapes: Shapes) -> EncoderSizes:
    """Read the sizes off the embedding (vocabulary, d_model) and the first block."""
    attention = "encoder.block.0.layer.0.SelfAttention."
    bias = shapes.get(attention + "relative_attention_bias.weight", ())  # (buckets, heads)
    query = shapes.get(attention + "q.weight", ())  # (heads · d_kv, d_model)
    gate = shapes.get("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", ())  # (d_ff, d_model)
    if not all(len(shape) == 2 and min(shape) > 0 for shape in (embedding, bias, query, gate)):
        raise CheckpointError(f"{path}: is not {WHAT}: its first block is incomplete")
    if query[0] % bias[1]:
        raise CheckpointError(f"{path}: is not {WHAT}: {query[0]} channels cannot be {bias[1]} heads")
    blocks = {match[1] for name in shapes if (match := re.match(r"encoder\.block\.(\d+)\.", name))}
    vocabulary, d_model = embedding
    buckets, heads = bias
    return EncoderSizes(vocabulary, d_model, gate[0], query[0] // heads, heads, len(blocks), buckets)


def _check_config(path: Path) -> None:
    """Compare a diffusers ``config.json``, where there is one, with what this encoder is."""
    if not path.is_file():
        return
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON; download it again") from error
    for name, value in FIXED.items():
        if not isinstance(config, dict) or config.get(name, value) != value:
            raise CheckpointError(f"{path}: is not the config of {WHAT}: {name} is not {value}")


UMT5_XXL = EncoderSizes(vocabulary=256384, d_model=4096, d_ff=10240, d_kv=64, heads=64, layers=24, buckets=32)
