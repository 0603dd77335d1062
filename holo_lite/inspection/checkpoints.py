"""Checkpoints: an expert, a text encoder, a VAE, in any format, or weights of something else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from holo_lite.errors import CheckpointError
from holo_lite.inspection.lines import do, fact, some
from holo_lite.system.units import bytes_text, count_text
from holo_lite.weights.file_names import outwards, stem, traits

Shapes = Mapping[str, tuple[int, ...]]
FORMATS = {".gguf": "GGUF", ".safetensors": "safetensors", ".json": "safetensors in shards"}


def checkpoint(path: Path) -> Iterator[str]:
    """A file of weights by itself. Raises `CheckpointError`."""
    first, measures = weight_lines(path)
    yield first
    yield fact("holds", measures)
    yield from _what_to_do(path)


def weight_lines(path: Path) -> Iterator[str]:
    """What network a file holds, and its measures. Raises `CheckpointError`."""
    from holo_lite.weights.files import open_weights

    file = open_weights(path)
    entries = file.entries.values()
    yield network({name: entry.shape for name, entry in file.entries.items()}, path)
    size = bytes_text(sum(entry.nbytes for entry in entries))
    numbers = count_text(sum(math.prod(entry.shape) for entry in entries))
    dtypes = sorted({str(entry.dtype).removeprefix("torch.") for entry in entries})
    yield f"{some(len(entries), 'tensor')}, {some_numbers(numbers)}, {size}, {', '.join(dtypes)}"


def some_numbers(text: str) -> str:
    """A count of numbers in words."""
    return f"{text} number" if text == "1" else f"{text} numbers"


def network(shapes: Shapes, path: Path) -> str:
    """Say which network has tensors of these names. Raises `CheckpointError` for an expert of another model."""
    from holo_lite.config import dit_config
    from holo_lite.weights.names import own_names

    own = own_names(shapes)
    shapes = {own[name]: shape for name, shape in shapes.items()}
    if "patch_embedding.weight" in shapes:
        c = dit_config(shapes, path)
        return f"expert: width {c.dim}, {c.num_heads} heads, {c.num_layers} blocks, feed-forward {c.ffn_dim}"
    if {"token_embedding.weight", "shared.weight", "token_embd.weight"} & shapes.keys():
        return "umt5 text encoder"
    if "conv2.weight" in shapes or "post_quant_conv.weight" in shapes:
        return "Wan 2.1 VAE"
    return "weights of an unknown network"


def main_file(part: Path) -> Path:
    """The weights of a diffusers folder, or the file itself. Raises `CheckpointError` for a folder without any."""
    if part.is_file():
        return part
    found = [*sorted(part.glob("*.safetensors.index.json")), *sorted(part.glob("*.safetensors"))]
    if not found:
        raise CheckpointError(f"{part}: holds no safetensors; download the folder again")
    return found[0]


def _what_to_do(path: Path) -> Iterator[str]:
    from holo_lite.weights.files import open_weights
    from holo_lite.weights.scaled import is_scaled

    file = open_weights(path)
    kind = network({name: entry.shape for name, entry in file.entries.items()}, path).partition(":")[0]
    yield fact(
        "format", f"{FORMATS.get(path.suffix, 'pickled by PyTorch')}{', 8 bits with scales' * is_scaled(file)}"
    )
    if kind == "expert":
        yield fact("by name", _told_by_name(path))
    if kind.startswith("weights"):
        yield "  Nothing in holo-lite uses it: it needs two experts, a umt5 text encoder and the Wan 2.1 VAE."
        return
    yield "  It is one part of a model, whose folder holds two experts, text encoder, VAE and tokenizer."
    if is_scaled(file) or (path.suffix == ".gguf" and kind == "expert"):
        yield do("convert the folder before it can run", "quantize", path.parent, "OUT")
    else:
        yield do("see what its folder holds", "inspect", path.parent)


def _told_by_name(path: Path) -> str:
    """What the names of an expert and of its folder tell."""
    place = path.absolute()
    found = traits(outwards(place.parent, place))
    told = [found.noise.replace("_", " ") if found.noise else "", found.attention or ""]
    said = ", ".join(word for word in told if word)
    whose = "Wan's own" if found.is_wan else "HoloCine's" if found.is_holocine else ""
    return ", ".join(filter(None, (said, whose))) or f"{stem(path.name) or path.name} tells nothing"
