"""One block of the released model, counted: both guidance branches, five shots, 480x832, at its true size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from unittest import mock

import torch
from torch import Tensor

from benchmarks.count import stand_ins
from benchmarks.count.tally import CARD, Tally, on_a_card, put_on_card
from benchmarks.speed.scale import SHOTS, windows_of
from holo_lite.config import HOLOCINE_14B, TEXT_ROWS
from holo_lite.eightbit.limits import LinearMode
from holo_lite.kernels.sdpa import KERNELS
from holo_lite.model import dit, whole_block
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.compute import Compute
from holo_lite.model.dit import Block
from holo_lite.model.equations import rope_parts
from holo_lite.model.layers import TextRows
from holo_lite.model.linear import pack_linears
from holo_lite.model.operations import Ops
from holo_lite.model.positions import Positions
from holo_lite.story.shots import ShotLayout, even_cuts

CONFIG = replace(HOLOCINE_14B, num_layers=1)
BF16 = torch.bfloat16
BRANCHES = 2
BY_LAYER = {
    "self-attention": "self_attention_",
    "cross-attention": "cross_attention_",
    "feed-forward": "feed_forward_",
}
LAYERS = (  # what runs each: layer by layer, or where a shot goes through all of them
    (dit, BY_LAYER),
    (dit, {"self-attention": "whole_block_"}),
    (whole_block, {"cross-attention": "tell_", "feed-forward": "feed_"}),
    (whole_block, {"cross-attention": "read_"}),
)


@dataclass(frozen=True)
class Way:
    """How a block computes, and the scheme its weights are stored under (bf16: plainly). holding: see `Chunks`."""

    name: str
    fused: bool = True
    linear: LinearMode = "plain"
    scheme: str = "bf16"
    holding: bool = False


PLAIN, FUSED = Way("plain", fused=False), Way("fused")
INT8, FP8 = Way("int8", linear="int8", scheme="int8"), Way("fp8", linear="fp8", scheme="qfloat8")
WAYS = (PLAIN, FUSED, INT8, FP8)
HELD = tuple(replace(way, name=f"{way.name}, inputs held", holding=True) for way in WAYS)


def clip_of(frames: int, chunks: Chunks | None = None, shots: int = SHOTS) -> Clip:
    """A clip of so many frames of 480x832."""
    layout = ShotLayout.from_frames(frames, even_cuts(frames, shots), 480, 832)
    return Clip(layout, "sparse", chunks or Chunks())


def count_block(clip: Clip, way: Way = FUSED, branches: int = BRANCHES) -> Tally:
    """Count one block's visit by every stream."""
    clip = replace(clip, chunks=replace(clip.chunks, holding=way.holding))
    with on_a_card() as tally:
        with tally.quiet():
            block, inputs = make_block(way.scheme), _inputs(clip, branches)
        compute = Compute(flash, way.linear, stand_ins.fused(tally) if way.fused else Ops())
        with stand_ins.eight_bits(tally), _layers_named(tally):
            block(*inputs, compute)
    return tally


def count_making_ready(way: Way) -> Tally:
    """Count what makes a block's weights ready for one visit, which their scheme and format ask for."""
    with on_a_card() as tally:
        with tally.quiet():
            block = make_block(way.scheme)
        compute = Compute(flash, way.linear)
        with stand_ins.eight_bits(tally), stand_ins.own_tables():
            for layer in (block.self_attn, block.cross_attn, block.ffn):
                layer.unpacked(compute)
    return tally


def make_block(scheme: str) -> Block:
    """A block on the card, its linear layers stored under a scheme."""
    with torch.device(CARD):
        block = Block(CONFIG)
        names = [name for name, parameter in block.named_parameters() if _is_linear(name, parameter)]
        pack_linears(block, dict.fromkeys(names, scheme) if scheme != "bf16" else {})
    put_on_card(block, lambda _: BF16)
    return block


def _is_linear(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 2 and name.endswith(".weight")


def flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's flash kernel, as `--kernel flash` calls it."""
    (kernel,) = (each for each in KERNELS if each.name == "flash")
    return kernel.open()(q, k, v)


def _inputs(clip: Clip, branches: int) -> tuple[Sequence[Tensor], Sequence[TextRows], Tensor, Clip, Positions]:
    def empty(*shape: int, dtype: torch.dtype = BF16) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=CARD)

    d, layout = CONFIG.dim, clip.layout
    seen = tuple(empty(len(rows), dtype=torch.int64) for rows in windows_of(layout.shots))
    texts = [TextRows(empty(TEXT_ROWS, d), None if branch else seen) for branch in range(branches)]
    sizes = layout.latent_frames, layout.rows, layout.columns
    frame, row, column = zip(sizes, rope_parts(CONFIG.head_dim), strict=True)
    tables = tuple(empty(size, part // 2, dtype=torch.float32) for size, part in (frame, row, column))
    positions = Positions(layout.rows, layout.columns, *[(tables[0], tables[1], tables[2])] * 2)
    return [empty(layout.tokens, d) for _ in range(branches)], texts, empty(6, d), clip, positions


@contextmanager
def _layers_named(tally: Tally) -> Iterator[None]:
    """Name what is launched by the layer that launches it."""
    with ExitStack() as stack:
        for module, layers in LAYERS:
            named = {name: tally.layered(layer, getattr(module, name)) for layer, name in layers.items()}
            stack.enter_context(mock.patch.multiple(module, **named))
        yield
