"""The layers of which both halves of the VAE are made, for one frame at a time.

They compute what diffusers' layers do, on their weights, and move less than half as much memory. A frame is (rows,
columns, channels), its channels next to each other:

    causal        a convolution over time sees a frame and the two before it. All three lie in one window, (rows,
                  columns, 3, channels), so it is one over the plane, of three times as many channels. The layer
                  before it writes straight into the window: nothing is joined or padded, and a card needs no
                  kernel for three dimensions, which some versions of cuDNN refuse in bf16.
    norm, SiLU    in place: one pass for the length, then divided into the window, scaled, and bent there.
    1x1           a matrix product.

What is remembered between frames is in a cache that the caller owns, by layer; the layers have no state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

REMEMBERED = 2  # frames before the one in work
WINDOW = REMEMBERED + 1
LEAST_LENGTH = 1e-12  # of a row of channels, as in diffusers: zeros stay zeros

Cache = dict[object, "Past"]  # by layer
Layer = Callable[[Tensor, Cache], Tensor]


class Past:
    """The two frames that a layer saw last, zeros before the first: (2, rows, columns, channels)."""

    def __init__(self, like: Tensor) -> None:
        self.frames = like.new_zeros(REMEMBERED, *like.shape)
        self.seen = 0

    def window(self) -> Tensor:
        """The frames in their order, and room for the next: (rows, columns, 3, channels)."""
        _, rows, columns, channels = self.frames.shape
        window = self.frames.new_empty(rows, columns, WINDOW, channels)
        for place in range(REMEMBERED):
            window[:, :, place] = self.frames[(self.seen + place) % REMEMBERED]
        return window

    def keep(self, frame: Tensor) -> None:
        """Remember a frame, and forget the oldest."""
        self.frames[self.seen % REMEMBERED] = frame
        self.seen += 1

    def move(self, device: torch.device) -> None:
        """Have the frames lie on another device."""
        self.frames = self.frames.to(device)


def past_of(layer: object, frame: Tensor, cache: Cache) -> Past:
    """What a layer remembers; nothing before its first frame, which tells the size."""
    if layer not in cache:
        cache[layer] = Past(frame)
    return cache[layer]


@dataclass(frozen=True, eq=False)
class Norm:
    """Each pixel's channels, brought to one length and scaled."""

    gamma: Tensor

    @classmethod
    def of(cls, norm: Any) -> Norm:
        """Take diffusers' layer's weights."""
        return cls(_taken(norm, "gamma").flatten())

    def write(self, x: Tensor, out: Tensor) -> Tensor:
        """Normalise (rows, columns, channels) into a tensor of that shape."""
        exact = torch.promote_types(x.dtype, torch.float32)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=exact)
        length.clamp_min_(LEAST_LENGTH).mul_(len(self.gamma) ** -0.5)
        return torch.div(x, length, out=out).mul_(self.gamma)


@dataclass(frozen=True, eq=False)
class Product:
    """A convolution that sees one pixel."""

    weight: Tensor  # (out, in)
    bias: Tensor

    @classmethod
    def of(cls, conv: Any) -> Product:
        """Take diffusers' layer's weights."""
        return cls(_taken(conv, "weight").flatten(1), _taken(conv, "bias"))

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, columns, in) to (rows, columns, out)."""
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class Plane:
    """A 3x3 convolution over one frame."""

    weight: Tensor  # (out, in, 3, 3), its input channels next to each other
    bias: Tensor

    @classmethod
    def of(cls, conv: Any) -> Plane:
        """Take diffusers' layer's weights."""
        weight = _taken(conv, "weight")
        return cls(weight.contiguous(memory_format=torch.channels_last), _taken(conv, "bias"))

    def __call__(self, x: Tensor, *, stride: int = 1, padding: int = 1) -> Tensor:
        """(rows, columns, in) to (rows, columns, out), or every `stride`-th row and column."""
        image = x[None].permute(0, 3, 1, 2)
        return F.conv2d(image, self.weight, self.bias, stride, padding)[0].permute(1, 2, 0)


@dataclass(frozen=True, eq=False)
class CausalConv:
    """A 3x3x3 convolution over a frame and the two before it; where there is a norm, of its SiLU."""

    plane: Plane  # of three times as many input channels
    norm: Norm | None = None

    @classmethod
    def of(cls, conv: Any, norm: Any = None) -> CausalConv:
        """Take the weights of diffusers' layer, and of the norm before it."""
        weight = _taken(conv, "weight")
        channels = weight.shape[1]
        flat = weight.permute(0, 3, 4, 2, 1).reshape(len(weight), 3, 3, WINDOW * channels)
        plane = Plane(flat.permute(0, 3, 1, 2), _taken(conv, "bias"))
        return cls(plane, None if norm is None else Norm.of(norm))

    def __call__(self, x: Tensor, cache: Cache) -> Tensor:
        """(rows, columns, in) to (rows, columns, out)."""
        return self.convolve(self.window(x, cache))

    def window(self, x: Tensor, cache: Cache) -> Tensor:
        """What is convolved, (rows, columns, 3 in): then the input may go."""
        past = past_of(self, x, cache)
        window = past.window()
        newest = window[:, :, -1]
        if self.norm is None:
            newest.copy_(x)
        else:
            F.silu(self.norm.write(x, newest), inplace=True)
        past.keep(newest)
        return window.flatten(2)

    def convolve(self, window: Tensor) -> Tensor:
        """A window to (rows, columns, out)."""
        return self.plane(window)


@dataclass(frozen=True, eq=False)
class Residual:
    """Two convolutions, and their input added."""

    first: CausalConv
    second: CausalConv
    shortcut: Product | None

    @classmethod
    def of(cls, block: Any) -> Residual:
        """Take diffusers' `WanResidualBlock`'s weights."""
        beside = getattr(block, "conv_shortcut", None)
        shortcut = Product.of(beside) if hasattr(beside, "weight") else None
        first, second = CausalConv.of(block.conv1, block.norm1), CausalConv.of(block.conv2, block.norm2)
        return cls(first, second, shortcut)

    def __call__(self, x: Tensor, cache: Cache) -> Tensor:
        """(rows, columns, in) to (rows, columns, out)."""
        inner = self.first(x, cache)
        window = self.second.window(inner, cache)
        del inner
        return self.second.convolve(window).add_(x if self.shortcut is None else self.shortcut(x))


@dataclass(frozen=True, eq=False)
class Attention:
    """Every pixel of a frame sees every other; one head."""

    norm: Norm
    qkv: Product
    out: Product

    @classmethod
    def of(cls, block: Any) -> Attention:
        """Take diffusers' `WanAttentionBlock`'s weights."""
        return cls(Norm.of(block.norm), Product.of(block.to_qkv), Product.of(block.proj))

    def __call__(self, x: Tensor, _: Cache) -> Tensor:
        """(rows, columns, channels) to the same."""
        qkv = self.qkv(self.norm.write(x, torch.empty_like(x, memory_format=torch.contiguous_format)))
        q, k, v = qkv.flatten(0, 1)[None, None].chunk(3, dim=-1)
        seen = F.scaled_dot_product_attention(q, k, v)
        return self.out(seen.view(x.shape)).add_(x)


def split_time(conv: Any) -> Product:
    """Take the weights of diffusers' convolution over time alone, as a product of three frames' channels."""
    weight = _taken(conv, "weight")[:, :, :, 0, 0]
    return Product(weight.transpose(1, 2).flatten(1), _taken(conv, "bias"))


def middle(block: Any) -> tuple[Layer, ...]:
    """The layers of diffusers' `WanMidBlock`."""
    before, after = block.resnets
    (attention,) = block.attentions
    return Residual.of(before), Attention.of(attention), Residual.of(after)


def _taken(module: Any, name: str) -> Tensor:
    """A weight, which the module loses, so that it is freed once it has been laid out otherwise."""
    tensor: Tensor = getattr(module, name).detach()
    delattr(module, name)
    return tensor
