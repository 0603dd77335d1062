"""How many bytes each part of a model takes, before any of them is read.

The sizes follow from names, shapes and schemes alone: of a folder, from the headers of its files; of the
released model in a scheme nobody has converted it to yet, from the architecture. Either way a block's tensors
lie at multiples of 256 bytes and end at one of 4096, as in a converted file, whose data region is one slot's
content.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch

from holo_lite.config import HOLOCINE_14B, DiTConfig
from holo_lite.model.dit import WanDiT
from holo_lite.plan.decoding import Decoder
from holo_lite.plan.encoding import UMT5_XXL, encoder_shapes
from holo_lite.schemes.registry import find
from holo_lite.schemes.scheme import PartSpec
from holo_lite.text.encoder_files import EncoderSizes
from holo_lite.weights.fill import module_shapes
from holo_lite.weights.manifest import PLAIN
from holo_lite.weights.shard import ALIGNMENT, PAGE

EXPERT_BLOCK = re.compile(r"blocks\.(\d+)\.(\w+)")  # the second group is the layer
ENCODER_BLOCK = re.compile(r"encoder\.block\.(\d+)\.(.+)\.weight")  # here, the linear itself: they unpack singly
NOT_LINEAR = "relative_attention_bias"
PLAIN_SCHEME = "bf16"


@dataclass(frozen=True)
class StoredWeight:
    """A tensor as it is stored: bytes of its parts, and how many numbers it unpacks to (0: it is not packed).

    `cast` is how many bytes it takes in the computing dtype, if it is stored plainly in another one.
    """

    name: str
    parts: tuple[int, ...]
    packed_numbers: int = 0
    cast: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes with the filler behind each part."""
        return sum(-(-part // ALIGNMENT) * ALIGNMENT for part in self.parts)


@dataclass(frozen=True)
class StackSizes:
    """A network that is a stack of blocks, in bytes.

    `rest` belongs to no block and stays; `unpacked` gives, by layer, the numbers that stand dense at once when
    the layer of the largest block is unpacked, and `heaviest` those of the largest weight among them, since weights
    are unpacked one after the other. Without packed weights both are empty. `casts` are the bytes that a block in
    use takes beside its own for weights stored in another dtype than the computing one; none where none has such.
    """

    rest: int
    blocks: tuple[int, ...]
    unpacked: Mapping[str, int] = field(default_factory=dict)
    heaviest: Mapping[str, int] = field(default_factory=dict)
    casts: tuple[int, ...] = ()

    @property
    def slot(self) -> int:
        """Bytes of a buffer that holds any of the blocks."""
        return max(self.blocks)

    @property
    def cast(self) -> int:
        """Most bytes that a block's cast weights take."""
        return max(self.casts, default=0)

    @property
    def total(self) -> int:
        """Bytes of all blocks."""
        return sum(self.blocks)

    def dense(self, layer: str | None = None) -> int:
        """Numbers unpacked at once in a layer, or (None) in the one with the most."""
        return max(self.unpacked.values(), default=0) if layer is None else self.unpacked.get(layer, 0)


@dataclass(frozen=True)
class ModelSizes:
    """All networks of a model. `bytes_per_number` is of the compute dtype: 2 in bf16, 4 in fp32."""

    scheme: str
    config: DiTConfig
    high_noise: StackSizes
    low_noise: StackSizes
    encoder: EncoderSizes
    text: StackSizes
    decoder: Decoder
    bytes_per_number: int = 2

    @property
    def slot(self) -> int:
        """Bytes of a slot: the largest block of either expert."""
        return max(self.high_noise.slot, self.low_noise.slot)


def released_sizes(scheme: str, config: DiTConfig = HOLOCINE_14B, encoder: EncoderSizes = UMT5_XXL) -> ModelSizes:
    """The released model as `holo-lite quantize --scheme` would convert it. Raises `SettingsError` for the name."""
    find(scheme)
    expert = stack_sizes(_stored(_expert_shapes(config), scheme), EXPERT_BLOCK)
    text = stack_sizes(_stored(encoder_shapes(encoder), scheme), ENCODER_BLOCK)
    return ModelSizes(scheme, config, expert, expert, encoder, text, Decoder())


def stack_sizes(tensors: Iterable[StoredWeight], block: re.Pattern[str]) -> StackSizes:
    """Add tensors up by block. The pattern's first group is the block's number, its second the layer."""
    rest, blocks, dense = 0, defaultdict[int, int](int), defaultdict[tuple[int, str], int](int)
    heaviest, casts = defaultdict[str, int](int), defaultdict[int, int](int)
    for tensor in tensors:
        if match := block.match(tensor.name):
            blocks[int(match[1])] += tensor.nbytes
            casts[int(match[1])] += tensor.cast
            dense[int(match[1]), match[2]] += tensor.packed_numbers
            heaviest[match[2]] = max(heaviest[match[2]], tensor.packed_numbers)
        else:
            rest += tensor.cast or tensor.nbytes
    unpacked = {layer: max(n for (_, name), n in dense.items() if name == layer) for _, layer in dense}
    return StackSizes(
        rest,
        tuple(-(-blocks[index] // PAGE) * PAGE for index in sorted(blocks)),
        unpacked={layer: n for layer, n in unpacked.items() if n},
        heaviest={layer: n for layer, n in heaviest.items() if n},
        casts=tuple(casts[index] for index in sorted(casts)) if any(casts.values()) else (),
    )


def _expert_shapes(config: DiTConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of an expert: all of its first block, and as many like it as it has."""
    with torch.device("meta"):
        shapes = module_shapes(WanDiT(dataclasses.replace(config, num_layers=1)))
    for name, shape in shapes.items():
        inside = name.removeprefix("blocks.0.")
        repeated = range(config.num_layers) if inside != name else (None,)
        for index in repeated:
            yield name if index is None else f"blocks.{index}.{inside}", shape


def _stored(shapes: Iterable[tuple[str, tuple[int, ...]]], scheme: str) -> Iterator[StoredWeight]:
    """The tensors as they are stored under a scheme: linear layers of blocks packed, all others in bf16."""
    for name, shape in shapes:
        if _is_packed(name, shape, scheme):
            parts = find(scheme).parts((shape[0], shape[1])).values()
            yield StoredWeight(name, tuple(part.nbytes for part in parts), math.prod(shape))
        else:
            yield StoredWeight(name, (PartSpec(shape, torch.bfloat16).nbytes,))


def _is_packed(name: str, shape: tuple[int, ...], scheme: str) -> bool:
    if scheme in {PLAIN, PLAIN_SCHEME} or len(shape) != 2 or NOT_LINEAR in name:
        return False
    in_block = EXPERT_BLOCK.match(name) or ENCODER_BLOCK.match(name)
    return bool(in_block) and find(scheme).fits((shape[0], shape[1])) is None
