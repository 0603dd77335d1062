"""Text encoder files: four layouts, one naming.

People hold umt5-xxl as the original ``models_t5_umt5-xxl-enc-bf16.pth``, as safetensors in the same names,
as a diffusers ``text_encoder/`` folder in transformers' names, whole or in shards, or as GGUF in llama.cpp's names.
What other tools put next to the weights, such as ``spiece_model``, is passed over. `open_encoder` makes them
one: every tensor by its name in transformers' `UMT5EncoderModel`, and the sizes of the network read off the shapes.
Only headers are read here, so a wrong file is reported before anything is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from holo_lite.errors import CheckpointError
from holo_lite.reading.files import read_text
from holo_lite.reading.trees import parse_json
from holo_lite.text.encoder_sizes import EncoderSizes
from holo_lite.weights.converted import stored_shapes
from holo_lite.weights.files import open_weights
from holo_lite.weights.manifest import is_converted
from holo_lite.weights.scaled import network_of
from holo_lite.weights.weight_file import Excerpt, WeightFile

WHAT = "a umt5 text encoder"
FOLDER_FILES = ("model.safetensors.index.json", "model.safetensors")
EMBEDDING = "shared.weight"  # in transformers' naming
EMBEDDING_NAMES = ("token_embedding.weight", EMBEDDING, "encoder.embed_tokens.weight", "token_embd.weight")
FIXED = {  # what shapes do not show; a config.json next to the weights must agree
    "model_type": "umt5",
    "feed_forward_proj": "gated-gelu",
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
}
RENAMES = (  # original names, then llama.cpp's, to transformers'
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
    (r"^enc\.blk\.(\d+)\.attn_norm\.", r"encoder.block.\1.layer.0.layer_norm."),
    (r"^enc\.blk\.(\d+)\.attn_([qkvo])\.", r"encoder.block.\1.layer.0.SelfAttention.\2."),
    (r"^enc\.blk\.(\d+)\.attn_rel_b\.", r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias."),
    (r"^enc\.blk\.(\d+)\.ffn_norm\.", r"encoder.block.\1.layer.1.layer_norm."),
    (r"^enc\.blk\.(\d+)\.ffn_gate\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_0."),
    (r"^enc\.blk\.(\d+)\.ffn_up\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_1."),
    (r"^enc\.blk\.(\d+)\.ffn_down\.", r"encoder.block.\1.layer.1.DenseReluDense.wo."),
    (r"^enc\.output_norm\.", r"encoder.final_layer_norm."),
)

Shapes = Mapping[str, tuple[int, ...]]


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
    network = network_of(file).entries
    layers = Excerpt(file, {name: entry for name, entry in network.items() if name not in embeddings})
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
        config = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON; download it again") from error
    for name, value in FIXED.items():
        if not isinstance(config, dict) or config.get(name, value) != value:
            raise CheckpointError(f"{path}: is not the config of {WHAT}: {name} is not {value}")
