"""Latents to frames through the Wan 2.1 decoder, one frame at a time.

The network is diffusers' `AutoencoderKLWan`, but only its layers are used. Its `decode` holds the whole clip
as pixels, grows it by `torch.cat` (so it is there twice), clamps it, and keeps the feature cache on the
module, where two decodings would share it. Its `from_single_file` asks the hub for a config.

The decoder is causal in time: a 3D convolution sees its input and the two frames before it, which a feature
cache keeps. So a clip can be decoded step by step, and the bits are the same. diffusers steps by one latent
frame, which becomes four frames at full size all at once. Here the decoder is cut into stages wherever time
doubles, and every stage takes one frame at a time, so at full size only one frame is ever in work:

    stage 0   conv_in, middle, up 0    H/8 to H/4    1 latent frame in, 1 or 2 frames out
    stage 1   up 1                     H/4 to H/2    1 frame in, 1 or 2 frames out
    stage 2   up 2, up 3, head         H/2 to H      1 frame in, 1 video frame out

The very first latent frame is never doubled: F latent frames become 4F-3 video frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from holo_lite.film.vae_files import WHAT, VaeConfig, diffusers_names, open_vae
from holo_lite.film.vae_shapes import Z_DIM
from holo_lite.system.quiet import without_remarks
from holo_lite.weights.fill import fill
from holo_lite.weights.weight_file import Excerpt

DECODER_PARTS = ("decoder", "post_quant_conv")
ENCODER_PARTS = ("encoder", "quant_conv")

Slots = defaultdict[int, Any]  # what each convolution remembers: a tensor, None, diffusers' placeholder "Rep"
Layer = Callable[[torch.Tensor, Slots, list[int]], torch.Tensor]
Stage = tuple[Layer, ...]
Cache = list[Slots]  # one for every stage


@dataclass(frozen=True)
class Vae:
    """The decoder half of the VAE, its weights in `dtype` on `device`. It keeps no state between frames."""

    config: VaeConfig
    model: Any  # AutoencoderKLWan without its encoder
    stages: tuple[Stage, ...]
    dtype: torch.dtype
    device: torch.device

    def new_cache(self) -> Cache:
        """The memory of a decoding that has not begun. Every clip, and every tile, needs its own."""
        return [defaultdict(lambda: None) for _ in self.stages]

    def decoder_input(self, latents: torch.Tensor) -> torch.Tensor:
        """Un-normalise one latent frame, (16,h,w) on any device in any dtype, to (1,16,1,h,w) on this one."""
        z = latents.to(self.device, torch.float32)
        mean, std = (
            torch.tensor(values, device=self.device).view(-1, 1, 1)
            for values in (self.config.latents_mean, self.config.latents_std)
        )
        return (z * std + mean).to(self.dtype)[None, :, None]

    def advance(self, z: torch.Tensor, cache: Cache) -> Iterator[torch.Tensor]:
        """Decode one latent frame (1,16,1,h,w) to one or four frames (3,8h,8w), lazily. Changes `cache`.

        The iterator must be drained before the next latent frame is given in.
        """
        yield from _through(self.stages, cache, self.model.post_quant_conv(z))


def load_vae(path: Path, *, dtype: torch.dtype, device: torch.device) -> Vae:
    """Load the decoder of a Wan 2.1 VAE. Never touches the network.

    `path` is ``Wan2.1_VAE.pth``, a safetensors file in the same original names or in diffusers' names, or
    a diffusers folder (``config.json`` and ``diffusion_pytorch_model.safetensors``). The encoder's tensors
    are checked but never read. Raises `CheckpointError` as `check_vae` does.
    """
    config, model = load_half(path, DECODER_PARTS, dtype=dtype, device=device)
    return Vae(config, model, _stages(model.decoder), dtype, device)


def load_half(
    path: Path, parts: tuple[str, ...], *, dtype: torch.dtype, device: torch.device
) -> tuple[VaeConfig, Any]:
    """Load the decoder or the encoder, by the names of its parts; the other half is checked but never read.

    Gives diffusers' `AutoencoderKLWan` with the other half's parts None. Raises `CheckpointError` as `check_vae`.
    """
    config, file = open_vae(path)
    model, renames = _network(config), diffusers_names(file.entries)
    for part in {*DECODER_PARTS, *ENCODER_PARTS} - set(parts):
        setattr(model, part, None)
    inside = tuple(f"{part}." for part in parts)
    wanted = {name: entry for name, entry in file.entries.items() if renames[name].startswith(inside)}
    fill(model, Excerpt(file, wanted), renames, dtype=dtype, device=device, what=WHAT)
    return config, model.eval()


def decode_frames(vae: Vae, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    """Decode a clip frame by frame.

    `latents` (16,F,H/8,W/8) are normalised, as the transformer makes them; they may lie on another device
    and in another dtype. Yields 4F-3 frames (3,H,W) on the decoder's device in its dtype, about -1 to 1
    and not clamped. Only the frame in work and the feature cache are in memory.
    """
    cache = vae.new_cache()
    for index in range(latents.shape[1]):
        yield from vae.advance(vae.decoder_input(latents[:, index]), cache)


def to_uint8(frame: torch.Tensor) -> torch.Tensor:
    """Turn a frame (3,H,W), -1 to 1 and clamped if beyond, into pixels: (H,W,3) uint8 on the CPU."""
    pixels = frame.float().clamp(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)
    return pixels.permute(1, 2, 0).cpu().contiguous()


def _network(config: VaeConfig) -> Any:
    """The whole network, without memory."""
    with without_remarks():
        from diffusers import AutoencoderKLWan  # seconds, which the first step need not wait for

    with torch.device("meta"):
        return AutoencoderKLWan(base_dim=config.base_dim, z_dim=Z_DIM)


def _through(stages: tuple[Stage, ...], cache: Cache, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Send every frame of `x` (1,c,t,h,w) through all stages before the next one enters the first."""
    if not stages:
        yield x[0, :, 0]
        return
    for frame in x.unbind(2):
        # The result is not bound to a name here, or it would live on while the next one is computed.
        yield from _through(stages[1:], cache[1:], _step(stages[0], cache[0], frame[:, :, None]))


def _step(stage: Stage, slots: Slots, x: torch.Tensor) -> torch.Tensor:
    """Advance a stage by one frame: (1,c,1,h,w) to (1,c',1 or 2,h',w'). Changes `slots`."""
    index = [0]  # the layers count their convolutions in it
    for layer in stage:
        x = layer(x, slots, index)
    return x


def _stages(decoder: Any) -> tuple[Stage, ...]:
    """Cut the decoder behind every block that doubles time."""
    stages: list[list[Layer]] = [[partial(_convolve, decoder.conv_in), decoder.mid_block]]
    for block in decoder.up_blocks:
        stages[-1].append(block)
        if block.upsamplers is not None and block.upsamplers[0].mode == "upsample3d":
            stages.append([])
    stages[-1].append(partial(_head, decoder))
    return tuple(tuple(layers) for layers in stages)


def _head(decoder: Any, x: torch.Tensor, slots: Slots, index: list[int]) -> torch.Tensor:
    return _convolve(decoder.conv_out, decoder.nonlinearity(decoder.norm_out(x)), slots, index)


def _convolve(conv: Any, x: torch.Tensor, slots: Slots, index: list[int]) -> torch.Tensor:
    """Apply a causal convolution to one frame and the two remembered before it, as diffusers' blocks do."""
    kept = slots[index[0]]
    slots[index[0]] = x if kept is None else torch.cat([kept[:, :, -1:], x], dim=2)
    index[0] += 1
    convolved: torch.Tensor = conv(x, kept)
    return convolved
