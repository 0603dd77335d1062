"""Whether a file can be a part at all: what its header, or a config next to it, says it is.

Only to choose between files whose names do not tell. Whether the one that is chosen belongs is proven later, from
all of its names and shapes; so a file that cannot be read counts as one that might, and is reported there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from holo_lite.config import LATENT_CHANNELS, other_network
from holo_lite.errors import CheckpointError
from holo_lite.reading.files import read_bytes
from holo_lite.reading.trees import parse
from holo_lite.weights.names import own_names

LATENT_TENSORS = ("conv2.bias", "post_quant_conv.bias")  # of the VAE, in the original naming and in diffusers'
EMBEDDING_TENSORS = ("token_embedding.weight", "shared.weight", "encoder.embed_tokens.weight", "token_embd.weight")
UMT5_ROWS = 256_384
MOST_TOKENS = 2**26  # bytes of a tokenizer.json
EXPERT_TENSORS = ("patch_embedding.weight", "blocks.0.self_attn.q.weight")  # an adapter has neither, whole


def may_be_expert(path: Path) -> bool:
    """Whether a file holds an expert for text, not an adapter or an expert of another model."""
    named = _named_as_ours(path)
    return named is None or (any(name in named for name in EXPERT_TENSORS) and other_network(named) is None)


def is_other_expert(path: Path) -> bool:
    """Whether a file holds an expert of another model, by channels or tensors that this one has not."""
    named = _named_as_ours(path)
    return named is not None and other_network(named) is not None


def _named_as_ours(path: Path) -> Mapping[str, tuple[int, ...]] | None:
    shapes = _shapes(path)
    if shapes is None:
        return None
    own = own_names(shapes)
    return {own[name]: shape for name, shape in shapes.items()}


def may_be_encoder(path: Path) -> bool:
    """Whether a file or a diffusers folder is a umt5's."""
    if path.is_dir():
        return _says(path / "config.json", "model_type", "umt5")
    shapes = _shapes(path)
    return shapes is None or any(name in shapes for name in EMBEDDING_TENSORS)


def may_be_vae(path: Path) -> bool:
    """Whether a file or a diffusers folder is a VAE of Wan 2.1's latents."""
    if path.is_dir():
        config = path / "config.json"
        return _says(config, "_class_name", "AutoencoderKLWan") and _says(config, "z_dim", LATENT_CHANNELS)
    shapes = _shapes(path)
    if shapes is None:
        return True
    latents = [shape for name, shape in shapes.items() if name.removeprefix("model.") in LATENT_TENSORS]
    return bool(latents) and latents[0][:1] == (LATENT_CHANNELS,)


def may_be_tokenizer(path: Path) -> bool:
    """Whether a file has about the vocabulary of umt5."""
    try:
        found = parse(read_bytes(path, MOST_TOKENS))
        size = len(found["model"]["vocab"])
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return UMT5_ROWS - 128 < size <= UMT5_ROWS


def _shapes(path: Path) -> Mapping[str, tuple[int, ...]] | None:
    """The shapes of a file's tensors; None if it cannot be read."""
    from holo_lite.weights.files import open_weights  # PyTorch, which most folders need not wait for
    from holo_lite.weights.scaled import network_of

    try:
        entries = network_of(open_weights(path)).entries
    except CheckpointError:
        return None
    return {name: entry.shape for name, entry in entries.items()}


def _says(config: Path, key: str, value: object) -> bool:
    """Whether a config says that, or nothing at all."""
    try:
        found = parse(read_bytes(config))
    except (OSError, ValueError):
        return True
    return not isinstance(found, dict) or found.get(key, value) == value
