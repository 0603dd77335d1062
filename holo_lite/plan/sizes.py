"""How many bytes each part of a model takes, before any of them is read.

The sizes follow from names, shapes and schemes alone: of a folder, from the headers of its files; of the
released model in a scheme that no file here has, from the architecture. Either way a block's tensors
lie at multiples of 256 bytes and end at one of 4096, as in a converted file, whose data region is one slot's
content.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from holo_lite.config import DiTConfig
from holo_lite.eightbit.limits import NO_WORKSPACE, SCALE, EightBits, LinearMode, Workspace, coded, unfit
from holo_lite.plan.decoding import Decoder
from holo_lite.schemes.registry import find
from holo_lite.text.encoder_sizes import EncoderSizes
from holo_lite.weights.alignment import PAGE, aligned
from holo_lite.weights.manifest import PLAIN

EXPERT_BLOCK = re.compile(r"blocks\.(\d+)\.(\w+)")  # the second group is the layer
ENCODER_BLOCK = re.compile(r"encoder\.block\.(\d+)\.(.+)\.weight")  # here, the linear itself: they unpack singly
PLAIN_SCHEME = "bf16"


@dataclass(frozen=True)
class StoredWeight:
    """A tensor as it is stored: bytes of its parts, and how many numbers it unpacks to (0: it is not packed).

    `cast` is how many bytes it takes in the computing dtype, if it is stored plainly in another one. The last three
    are its adapters': `remade` the numbers of a plain weight that is copied and changed in every visit, `factors`
    the bytes of what is multiplied and added then, `changed` those of a sum kept in addition to what is stored.
    `shape` is the weight's before it was packed under `scheme`.
    """

    name: str
    parts: tuple[int, ...]
    packed_numbers: int = 0
    cast: int = 0
    remade: int = 0
    factors: int = 0
    changed: int = 0
    shape: tuple[int, ...] = ()
    scheme: str = PLAIN

    @property
    def matrix(self) -> Matrix | None:
        """What it is to a product, if it is multiplied."""
        if len(self.shape) != 2:
            return None
        outputs, inputs = self.shape
        stored = find(self.scheme).eight_bits if self.packed_numbers and not self.factors else None
        return Matrix(outputs, inputs, made=bool(self.packed_numbers or self.remade), eight_bits=stored)

    @property
    def nbytes(self) -> int:
        """Bytes with the filler behind each part."""
        return sum(map(aligned, self.parts))


@dataclass(frozen=True)
class Matrix:
    """A weight (outputs, inputs) that is `made` again in every visit even if it is multiplied plainly.

    `eight_bits` is the format in which it lies ready to be multiplied, if there is one.
    """

    outputs: int
    inputs: int
    made: bool = False
    eight_bits: EightBits | None = None

    def ready(self, linear: LinearMode, bytes_per_number: int) -> int:
        """Bytes that it takes in addition to what is stored, unpacked for a visit."""
        if linear == "plain" or unfit(linear, self.outputs, self.inputs):
            return self.outputs * self.inputs * bytes_per_number if self.made else 0
        return self.outputs * SCALE if linear == self.eight_bits else coded(self.outputs, self.inputs)


@dataclass(frozen=True)
class StackSizes:
    """A network that is a stack of blocks, in bytes.

    `rest` belongs to no block and stays; `unpacked` gives, by layer, the numbers that are dense at once when
    the layer of the largest block is unpacked, and `heaviest` those of the largest weight among them, since weights
    are unpacked one after the other. Without packed weights both are empty. `casts` are the bytes that a block in
    use takes in addition for weights stored in another dtype than the computing one; empty where there are none.

    With adapters, weights that are copied and changed count as unpacked, tensors that are changed whole as cast,
    and layers outside the blocks have their place in `unpacked`, too. `factors` are the bytes of the largest pair
    of factors by layer, `adapters` those of host memory that hold all of them.

    `matrices` are a layer's weights, in as many ways as blocks differ. What they take in 8 bits follows from them.
    """

    rest: int
    blocks: tuple[int, ...]
    unpacked: Mapping[str, int] = field(default_factory=dict)
    heaviest: Mapping[str, int] = field(default_factory=dict)
    casts: tuple[int, ...] = ()
    factors: Mapping[str, int] = field(default_factory=dict)
    adapters: int = 0
    matrices: Mapping[str, frozenset[tuple[Matrix, ...]]] = field(default_factory=dict)

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

    def ready(self, layer: str, linear: LinearMode, bytes_per_number: int) -> int:
        """Bytes of a block's layer unpacked for a visit, in addition to what is stored."""
        if linear == "plain":
            return self.dense(layer) * bytes_per_number
        ways = self.matrices.get(layer, ())
        return max((sum(each.ready(linear, bytes_per_number) for each in way) for way in ways), default=0)

    def made(self, layer: str, linear: LinearMode) -> int:
        """Numbers of the largest of a layer's weights that are made slice by slice."""
        if linear == "plain":
            return self.heaviest.get(layer, 0)
        weights = {each for way in self.matrices.get(layer, ()) for each in way}
        return max((w.outputs * w.inputs for w in weights if w.ready(linear, 1) >= w.outputs * w.inputs), default=0)


@dataclass(frozen=True)
class ModelSizes:
    """All networks of a model. `bytes_per_number` is of the compute dtype: 2 in bf16, 4 in fp32.

    `linear` is the format in which the experts' blocks multiply, `workspace` what their attention kernel holds.
    """

    scheme: str
    config: DiTConfig
    high_noise: StackSizes
    low_noise: StackSizes
    encoder: EncoderSizes
    text: StackSizes
    decoder: Decoder
    bytes_per_number: int = 2
    linear: LinearMode = "plain"
    workspace: Workspace = NO_WORKSPACE

    @property
    def slot(self) -> int:
        """Bytes of a slot: the largest block of either expert."""
        return max(self.high_noise.slot, self.low_noise.slot)


def stack_sizes(tensors: Iterable[StoredWeight], block: re.Pattern[str]) -> StackSizes:
    """Add tensors up by block. The pattern's first group is the block's number, its second the layer."""
    rest, blocks, dense = 0, defaultdict[int, int](int), defaultdict[tuple[int, str], int](int)
    heaviest, casts = defaultdict[str, int](int), defaultdict[int, int](int)
    factors, ends = defaultdict[str, int](int), defaultdict[str, int](int)
    matrices = defaultdict[tuple[int, str], tuple[Matrix, ...]](tuple)
    for tensor in tensors:
        if match := block.match(tensor.name):
            layer = match[2]
            matrices[int(match[1]), layer] += (tensor.matrix,) if tensor.matrix else ()
            blocks[int(match[1])] += tensor.nbytes
            casts[int(match[1])] += tensor.cast or tensor.changed
            dense[int(match[1]), layer] += tensor.packed_numbers or tensor.remade
            heaviest[layer] = max(heaviest[layer], tensor.packed_numbers)
        else:
            layer = tensor.name.partition(".")[0]
            rest += tensor.cast or tensor.nbytes + tensor.changed
            ends[layer] = max(ends[layer], tensor.remade)  # its weights are made ready one by one
        factors[layer] = max(factors[layer], tensor.factors)
    inside = {layer: max(n for (_, name), n in dense.items() if name == layer) for _, layer in dense}
    unpacked = {**ends, **inside}
    return StackSizes(
        rest,
        tuple(aligned(blocks[index], PAGE) for index in sorted(blocks)),
        unpacked={layer: n for layer, n in unpacked.items() if n},
        heaviest={layer: n for layer, n in heaviest.items() if n},
        casts=tuple(casts[index] for index in sorted(casts)) if any(casts.values()) else (),
        factors={layer: nbytes for layer, nbytes in factors.items() if nbytes},
        matrices=_ways(matrices),
    )


def _ways(matrices: Mapping[tuple[int, str], tuple[Matrix, ...]]) -> dict[str, frozenset[tuple[Matrix, ...]]]:
    """Each layer's weights, once for all blocks in which they are alike."""
    found = defaultdict[str, set[tuple[Matrix, ...]]](set)
    for (_, layer), weights in matrices.items():
        if weights:
            found[layer].add(tuple(sorted(weights, key=repr)))
    return {layer: frozenset(ways) for layer, ways in found.items()}
