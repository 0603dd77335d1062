"""Latents to frames through the Wan 2.1 decoder, one frame at a time.

The weights are those of diffusers' `AutoencoderKLWan`. Its `decode` holds the whole clip as pixels, grows it by
`torch.cat` (so it is there twice), clamps it, and keeps the feature cache on the module, where two decodings would
share it.

The decoder is causal in time: a convolution sees its input and the two frames before it, which a feature cache
keeps. So a clip can be decoded step by step, and the numbers are the same. diffusers steps by one latent frame,
which becomes four frames at full size all at once. Here the decoder is cut into stages wherever time doubles, and
every stage takes one frame at a time, so at full size only one frame is ever in work:

    stage 0   conv_in, middle, up 0                     H/8          1 latent frame in, 1 or 2 frames out
    stage 1   enlarging, up 1                           H/4          1 frame in, 1 or 2 frames out
    stage 2   enlarging, up 2, enlarging, up 3, head    H/2 and H    1 frame in, 1 video frame out

The very first latent frame is never doubled: F latent frames become 4F-3 video frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from holo_lite.film.vae_files import VaeConfig
from holo_lite.film.vae_layers import (
    Cache,
    CausalConv,
    Layer,
    Plane,
    Product,
    Residual,
    middle,
    past_of,
    split_time,
)
from holo_lite.film.vae_load import DECODER_PARTS, load_half


@dataclass(frozen=True)
class Vae:
    """The decoder half of the VAE, its weights in `dtype` on `device`. It keeps no state between frames."""

    config: VaeConfig
    entry: Product
    stages: tuple[Stage, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, config: VaeConfig, model: Any, dtype: torch.dtype, device: torch.device) -> Vae:
        """Take the decoder's weights from diffusers' `AutoencoderKLWan`, which loses them."""
        return cls(config, Product.of(model.post_quant_conv), _stages(model.decoder), dtype, device)

    def new_cache(self) -> Cache:
        """The memory of a decoding that has not begun. Every clip, and every tile, needs its own."""
        return {}

    def decoder_input(self, latents: Tensor) -> Tensor:
        """Un-normalise one latent frame, (16,h,w) on any device in any dtype, to (h,w,16) on this one."""
        z = latents.to(self.device, torch.float32).permute(1, 2, 0)
        mean, std = (
            torch.tensor(values, device=self.device)
            for values in (self.config.latents_mean, self.config.latents_std)
        )
        return (z * std + mean).to(self.dtype)

    def advance(self, z: Tensor, cache: Cache) -> Iterator[Tensor]:
        """Decode one latent frame (h,w,16) to one or four frames (3,8h,8w), lazily. Changes `cache`.

        The iterator must be drained before the next latent frame is given in.
        """
        yield from _through(self.stages, cache, self.entry(z))


def load_vae(path: Path, *, dtype: torch.dtype, device: torch.device) -> Vae:
    """Load the decoder of a Wan 2.1 VAE. Never touches the network.

    `path` is ``Wan2.1_VAE.pth``, a safetensors file in the same original names or in diffusers' names, or
    a diffusers folder (``config.json`` and ``diffusion_pytorch_model.safetensors``). The encoder's tensors
    are checked but never read. Raises `CheckpointError` as `check_vae` does.
    """
    config, model = load_half(path, DECODER_PARTS, dtype=dtype, device=device)
    return Vae.of(config, model, dtype, device)


def decode_frames(vae: Vae, latents: Tensor) -> Iterator[Tensor]:
    """Decode a clip frame by frame.

    `latents` (16,F,H/8,W/8) are normalised, as the transformer makes them; they may lie on another device
    and in another dtype. Yields 4F-3 frames (3,H,W) on the decoder's device in its dtype, about -1 to 1
    and not clamped. Only the frame in work and the feature cache are in memory.
    """
    cache = vae.new_cache()
    for index in range(latents.shape[1]):
        yield from vae.advance(vae.decoder_input(latents[:, index]), cache)


def to_uint8(frame: Tensor) -> Tensor:
    """Turn a frame (3,H,W), -1 to 1 and clamped if beyond, into pixels: (H,W,3) uint8 on the CPU."""
    pixels = frame.to(torch.float32, copy=True).clamp_(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)
    return pixels.permute(1, 2, 0).cpu().contiguous()


@dataclass(frozen=True, eq=False)
class Doubling:
    """One frame becomes two, but the first of all, which is not looked at again either."""

    halves: tuple[Product, Product]  # each of three frames' channels

    @classmethod
    def of(cls, conv: Any) -> Doubling:
        """Take the weights of diffusers' `time_conv`: one frame's channels lie behind the other's."""
        product = split_time(conv)
        first, second = zip(product.weight.chunk(2), product.bias.chunk(2), strict=True)
        return cls((Product(*first), Product(*second)))

    def __call__(self, x: Tensor, cache: Cache) -> tuple[Tensor, ...]:
        """(rows, columns, channels) to one or two of the same."""
        if self not in cache:
            past_of(self, x, cache)
            return (x,)
        past = cache[self]
        window = past.window()
        window[:, :, -1] = x
        past.keep(x)
        return tuple(half(window.flatten(2)) for half in self.halves)


@dataclass(frozen=True, eq=False)
class Enlarging:
    """Every pixel becomes four, which are then smoothed."""

    plane: Plane

    def __call__(self, x: Tensor, _: Cache) -> Tensor:
        """(rows, columns, channels) to (2 rows, 2 columns, channels / 2)."""
        rows, columns, channels = x.shape
        fourfold = x[:, None, :, None].expand(rows, 2, columns, 2, channels)
        return self.plane(fourfold.reshape(2 * rows, 2 * columns, channels))


@dataclass(frozen=True, eq=False)
class Stage:
    """Layers that see one frame at a time, and how it becomes more for the next stage (None: it is the last)."""

    layers: tuple[Layer, ...]
    doubling: Doubling | None


def _stages(decoder: Any) -> tuple[Stage, ...]:
    """Cut the decoder wherever time doubles."""
    stages: list[Stage] = []
    layers: list[Layer] = [CausalConv.of(decoder.conv_in), *middle(decoder.mid_block)]
    for block in decoder.up_blocks:
        layers += map(Residual.of, block.resnets)
        for upsampler in getattr(block, "upsamplers", None) or ():
            if hasattr(upsampler, "time_conv"):
                stages.append(Stage(tuple(layers), Doubling.of(upsampler.time_conv)))
                layers = []
            layers.append(Enlarging(Plane.of(upsampler.resample.get_submodule("1"))))
    layers.append(CausalConv.of(decoder.conv_out, decoder.norm_out))
    return (*stages, Stage(tuple(layers), None))


def _through(stages: tuple[Stage, ...], cache: Cache, frame: Tensor) -> Iterator[Tensor]:
    """Send a frame through all stages, and all that it becomes in one before the next one enters it."""
    stage, *later = stages
    for layer in stage.layers:
        frame = layer(frame, cache)
    if stage.doubling is None:
        yield frame.permute(2, 0, 1)
        return
    frames = deque(stage.doubling(frame, cache))
    del frame
    while frames:
        yield from _through(tuple(later), cache, frames.popleft())
