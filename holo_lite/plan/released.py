"""The sizes of the released model in any scheme, also one that nobody has converted it to yet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator

import torch

from holo_lite.config import HOLOCINE_14B, DiTConfig
from holo_lite.model.dit import WanDiT
from holo_lite.plan.decoding import Decoder
from holo_lite.plan.sizes import ENCODER_BLOCK, EXPERT_BLOCK, PLAIN_SCHEME, ModelSizes, StoredWeight, stack_sizes
from holo_lite.schemes.registry import find
from holo_lite.schemes.scheme import PartSpec
from holo_lite.text.encoder_shapes import encoder_shapes
from holo_lite.text.encoder_sizes import UMT5_XXL, EncoderSizes
from holo_lite.weights.fill import module_shapes
from holo_lite.weights.manifest import PLAIN
from holo_lite.weights.names import LINEARS


def released_sizes(scheme: str, config: DiTConfig = HOLOCINE_14B, encoder: EncoderSizes = UMT5_XXL) -> ModelSizes:
    """The released model as `holo-lite quantize --scheme` would convert it. Raises `SettingsError` for the name."""
    find(scheme)
    expert = stack_sizes(stored_weights(expert_shapes(config), scheme), EXPERT_BLOCK)
    text = stack_sizes(stored_weights(encoder_shapes(encoder).items(), scheme), ENCODER_BLOCK)
    return ModelSizes(scheme, config, expert, expert, encoder, text, Decoder())


def expert_shapes(config: DiTConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of an expert: all of its first block, and as many like it as it has."""
    with torch.device("meta"):
        shapes = module_shapes(WanDiT(dataclasses.replace(config, num_layers=1)))
    for name, shape in shapes.items():
        inside = name.removeprefix("blocks.0.")
        repeated = range(config.num_layers) if inside != name else (None,)
        for index in repeated:
            yield name if index is None else f"blocks.{index}.{inside}", shape


def stored_weights(shapes: Iterable[tuple[str, tuple[int, ...]]], scheme: str) -> Iterator[StoredWeight]:
    """The tensors as they are stored under a scheme: linear layers of blocks packed, all others in bf16."""
    for name, shape in shapes:
        if _is_packed(name, shape, scheme):
            parts = find(scheme).parts((shape[0], shape[1])).values()
            sizes = tuple(part.nbytes for part in parts)
            yield StoredWeight(name, sizes, math.prod(shape), shape=shape, scheme=scheme)
        else:
            yield StoredWeight(name, (PartSpec(shape, torch.bfloat16).nbytes,), shape=shape)


def _is_packed(name: str, shape: tuple[int, ...], scheme: str) -> bool:
    if scheme in {PLAIN, PLAIN_SCHEME} or not LINEARS.fullmatch(name):
        return False
    return find(scheme).fits((shape[0], shape[1])) is None
