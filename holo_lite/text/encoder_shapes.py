"""Which tensors a umt5 encoder has: their names in transformers' module, in its order, and their shapes.

A file can so be judged without the library, whose import takes seconds that a run with a known prompt can spare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from holo_lite.schemes.registry import find
from holo_lite.text.encoder_files import WHAT, describe_encoder, open_encoder
from holo_lite.text.encoder_sizes import EncoderSizes
from holo_lite.weights.converted import packed_schemes
from holo_lite.weights.fill import ExpectedTensor, compare
from holo_lite.weights.weight_file import WeightFile

BIAS = "relative_attention_bias.weight"  # a table, no linear layer: it is never packed

Shape = tuple[int, ...]


def check_text_encoder(path: Path) -> EncoderSizes:
    """Check a text encoder by names and shapes alone, in any layout that `TextEncoder.load` takes.

    Returns its sizes.

    Raises `CheckpointError` for a missing or damaged file, for tensors that are missing, superfluous or of
    another shape, and for a ``config.json`` of another kind of encoder.
    """
    source = open_encoder(path)
    wanted = stored_tensors(source.sizes, packed_schemes(source.layers.file))
    compare(wanted, source.layers, source.renames, what=WHAT)
    return source.sizes


def describe_text_encoder(file: WeightFile) -> tuple[EncoderSizes, tuple[str, ...]]:
    """The sizes of an encoder, and the names of its layers' tensors in the order in which they are used.

    Raises `CheckpointError` as `check_text_encoder` does.
    """
    source = describe_encoder(file)
    compare(stored_tensors(source.sizes, {}), source.layers, source.renames, what=WHAT)
    return source.sizes, tuple(encoder_shapes(source.sizes))


def encoder_shapes(sizes: EncoderSizes) -> dict[str, Shape]:
    """Every tensor of an encoder's layers; the embedding is none of them."""
    found: dict[str, Shape] = {}
    for index in range(sizes.layers):
        found.update(_block(f"encoder.block.{index}.layer", sizes))
    return {**found, "encoder.final_layer_norm.weight": (sizes.d_model,)}


def stored_tensors(sizes: EncoderSizes, schemes: Mapping[str, str]) -> dict[str, ExpectedTensor]:
    """What a file must hold: every tensor, or its parts where it is stored under a scheme that can hold it."""
    found: dict[str, ExpectedTensor] = {}
    for name, shape in encoder_shapes(sizes).items():
        scheme = schemes.get(name)
        if scheme is None or len(shape) != 2 or name.endswith(BIAS) or find(scheme).fits((shape[0], shape[1])):
            found[name] = ExpectedTensor(shape)
            continue
        parts = find(scheme).parts((shape[0], shape[1]))
        found.update({f"{name}.{part}": ExpectedTensor(tuple(p.shape), p.dtype) for part, p in parts.items()})
    return found


def _block(name: str, sizes: EncoderSizes) -> Iterator[tuple[str, Shape]]:
    inner = sizes.heads * sizes.d_kv
    for letter in "qkv":
        yield f"{name}.0.SelfAttention.{letter}.weight", (inner, sizes.d_model)
    yield f"{name}.0.SelfAttention.o.weight", (sizes.d_model, inner)
    yield f"{name}.0.SelfAttention.{BIAS}", (sizes.buckets, sizes.heads)
    yield f"{name}.0.layer_norm.weight", (sizes.d_model,)
    for gate in ("wi_0", "wi_1"):
        yield f"{name}.1.DenseReluDense.{gate}.weight", (sizes.d_ff, sizes.d_model)
    yield f"{name}.1.DenseReluDense.wo.weight", (sizes.d_model, sizes.d_ff)
    yield f"{name}.1.layer_norm.weight", (sizes.d_model,)
