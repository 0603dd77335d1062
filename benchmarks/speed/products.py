"""Matrix products in 8 bits against plain ones of the same shapes: a block's linear layers, as they are run.

What is timed is what a layer does with a portion of tokens: quantize them, multiply, add the bias. Making the
weight ready happens once a visit and is not in it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.speed.own import EIGHT_BITS
from benchmarks.speed.scale import Scale
from benchmarks.speed.weights import fill_random
from benchmarks.timing import Repeats, repeated
from holo_lite.eightbit.limits import LinearMode
from holo_lite.errors import SettingsError
from holo_lite.kernels.linear_choice import pick_linear
from holo_lite.model.linear import Linear

OFTEN = Repeats(3, 50, 0.3)
MOST_ROWS = 512  # at small scale


@dataclass(frozen=True)
class Shape:
    """A linear layer's shape, the rows it gets at once, and how many such layers a token passes in a block."""

    rows: int
    inputs: int
    outputs: int
    layers: int

    @property
    def name(self) -> str:
        """As the table says it."""
        return f"{self.rows}x{self.inputs}x{self.outputs}"


def shapes(scale: Scale) -> tuple[Shape, ...]:
    """Of a block: q, k, v, o of self-attention, q and o of cross-attention; feed-forward up, and down."""
    d, f, chunks = scale.whole.dim, scale.whole.ffn_dim, scale.chunks
    attended, fed = (
        min(rows, MOST_ROWS) if scale.small else rows for rows in (chunks.attention, chunks.feed_forward)
    )
    return Shape(attended, d, d, 6), Shape(fed, d, f, 1), Shape(fed, f, d, 1)


def products(scale: Scale, device: torch.device) -> dict[str, Any]:
    """Of each format how many times as fast its products are, shape by shape and for a block."""
    plain = {shape: _seconds(shape, "plain", scale, device) for shape in shapes(scale)}
    return {"kind": "products", "modes": {mode: _mode(mode, plain, scale, device) for mode in EIGHT_BITS}}


def _mode(said: str, plain: Mapping[Shape, float], scale: Scale, device: torch.device) -> dict[str, Any]:
    try:
        mode, _ = pick_linear(said, device, scale.dtype)
    except SettingsError as error:
        return {"refused": str(error)}
    found = {shape: _seconds(shape, mode, scale, device) for shape in plain}
    speeds = {shape.name: plain[shape] / found[shape] for shape in plain}
    return {"speed": a_token(plain) / a_token(found), "shapes": speeds}


def a_token(seconds: Mapping[Shape, float]) -> float:
    """Seconds that a token spends in the linear layers of a block."""
    return sum(shape.layers * each / shape.rows for shape, each in seconds.items())


def _seconds(shape: Shape, mode: LinearMode, scale: Scale, device: torch.device) -> float:
    """The median of several portions."""
    with torch.device("meta"):
        layer = Linear(shape.inputs, shape.outputs)
    fill_random(layer, device, lambda _: scale.dtype)
    x = torch.randn(shape.rows, shape.inputs, dtype=scale.dtype, device=device)
    with torch.inference_mode():
        multiply = layer.unpacked(mode=mode)
    return statistics.median(repeated(lambda: multiply(x), device, OFTEN))
