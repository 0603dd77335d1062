"""Frames to latents through the Wan 2.1 encoder, one frame at a time.

diffusers' `encode` takes four frames at full size at once, and the whole clip as pixels. Here every layer takes one
frame at a time, as in the decoder. Where time halves, two frames become one: the layer keeps the first of them and
gives nothing, and what comes behind it waits.

    conv_in, level 0, half the size            H             1 frame in
    level 1, half the size, half the time      H/2           of 2 frames in, 1 out
    level 2, half the size, half the time      H/4           of 2 frames in, 1 out
    level 3, middle, head                      H/8           1 frame in, 1 latent frame out

The very first frame is alone: 4F-3 video frames become F latent frames. A latent frame is the mean of what the
encoder says is possible, never drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from holo_lite.film.vae_files import VaeConfig
from holo_lite.film.vae_layers import (
    Cache,
    CausalConv,
    Plane,
    Product,
    Residual,
    middle,
    past_of,
    split_time,
)
from holo_lite.film.vae_load import ENCODER_PARTS, load_half
from holo_lite.film.vae_shapes import Z_DIM

Layer = Callable[[Tensor, Cache], Tensor | None]


@dataclass(frozen=True)
class VaeEncoder:
    """The encoder half of the VAE, its weights in `dtype` on `device`. It keeps no state between frames."""

    config: VaeConfig
    layers: tuple[Layer, ...]
    mean: Product
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, config: VaeConfig, model: Any, dtype: torch.dtype, device: torch.device) -> VaeEncoder:
        """Take the encoder's weights from diffusers' `AutoencoderKLWan`, which loses them."""
        both = Product.of(model.quant_conv)  # mean and spread
        mean = Product(both.weight[:Z_DIM], both.bias[:Z_DIM])
        return cls(config, tuple(_layers(model.encoder)), mean, dtype, device)

    def new_cache(self) -> Cache:
        """The memory of an encoding that has not begun. Every clip, and every tile, needs its own."""
        return {}

    def encoder_input(self, pixels: Tensor) -> Tensor:
        """Bring a frame (H,W,3) of uint8 to the encoder's device and dtype, from -1 to 1."""
        return pixels.to(self.device).to(torch.float32).div_(127.5).sub_(1).to(self.dtype)

    def advance(self, x: Tensor, cache: Cache) -> Tensor | None:
        """Encode one frame (8h,8w,3), -1 to 1. Changes `cache`.

        Gives a latent frame (16,h,w), normalised and fp32, for the first frame and then for every fourth.
        """
        found: Tensor | None = x
        for layer in self.layers:
            if found is None:
                return None
            found = layer(found, cache)
        return None if found is None else self._normalised(self.mean(found))

    def _normalised(self, mean: Tensor) -> Tensor:
        centre, spread = (
            torch.tensor(values, device=self.device)
            for values in (self.config.latents_mean, self.config.latents_std)
        )
        return ((mean.float() - centre) / spread).permute(2, 0, 1).contiguous()


def load_vae_encoder(path: Path, *, dtype: torch.dtype, device: torch.device) -> VaeEncoder:
    """Load the encoder of a Wan 2.1 VAE, from a path as for `load_vae`. Never touches the network.

    The decoder's tensors are checked but never read. Raises `CheckpointError` as `check_vae` does.
    """
    config, model = load_half(path, ENCODER_PARTS, dtype=dtype, device=device)
    return VaeEncoder.of(config, model, dtype, device)


@dataclass(frozen=True, eq=False)
class Shrinking:
    """Four pixels become one."""

    plane: Plane

    def __call__(self, x: Tensor, _: Cache) -> Tensor:
        """(rows, columns, channels) to half as many rows and columns; both numbers are even."""
        return self.plane(F.pad(x, (0, 0, 0, 1, 0, 1)), stride=2, padding=0)


@dataclass(frozen=True, eq=False)
class Halving:
    """Two frames become one, but for the first of all, which is only remembered."""

    product: Product  # of three frames' channels

    def __call__(self, x: Tensor, cache: Cache) -> Tensor | None:
        """(rows, columns, channels) to the same, or to nothing if another frame is needed."""
        past = past_of(self, x, cache)
        first, waits = past.seen == 0, past.seen % 2 == 1
        if first or waits:
            past.keep(x)
            return x if first else None
        window = past.window()
        window[:, :, -1] = x
        past.keep(x)
        return self.product(window.flatten(2))


def _layers(encoder: Any) -> list[Layer]:
    layers: list[Layer] = [CausalConv.of(encoder.conv_in)]
    for block in encoder.down_blocks:
        if not hasattr(block, "resample"):
            layers.append(Residual.of(block))
            continue
        layers.append(Shrinking(Plane.of(block.resample.get_submodule("1"))))
        if hasattr(block, "time_conv"):
            layers.append(Halving(split_time(block.time_conv)))
    layers += middle(encoder.mid_block)
    return [*layers, CausalConv.of(encoder.conv_out, encoder.norm_out)]
