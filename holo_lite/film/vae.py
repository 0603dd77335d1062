"""Latents to frames through the Wan 2.1 decoder, one frame at a time.

The network is diffusers' `AutoencoderKLWan`, but only its layers are used. Its `decode` holds the whole clip
as pixels, grows it by `torch.cat` (so it stands there twice), clamps it, and keeps the feature cache on the
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

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

from holo_lite.errors import CheckpointError
from holo_lite.weights.files import WeightFile, open_weights
from holo_lite.weights.fill import check, fill
from holo_lite.weights.header import TensorEntry

WHAT = "the Wan 2.1 VAE"
VAE_NAME = "AutoencoderKLWan"
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
DECODER_PARTS = ("decoder.", "post_quant_conv.")
Z_DIM = 16

# fmt: off
LATENTS_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)
LATENTS_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)
# fmt: on

# What a diffusers config may say and this decoder takes for granted. Wan 2.2's 5B VAE differs here.
ARCHITECTURE: Mapping[str, object] = {
    "_class_name": VAE_NAME,
    "z_dim": Z_DIM,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
    "is_residual": False,
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": None,
    "decoder_base_dim": None,
}

Slots = defaultdict[int, Any]  # what each convolution remembers: a tensor, None, diffusers' placeholder "Rep"
Layer = Callable[[torch.Tensor, Slots, list[int]], torch.Tensor]
Stage = tuple[Layer, ...]
Cache = list[Slots]  # one for every stage


@dataclass(frozen=True)
class VaeConfig:
    """The width of the VAE and the scale of its latents; everything else is Wan 2.1's."""

    base_dim: int
    latents_mean: tuple[float, ...] = LATENTS_MEAN
    latents_std: tuple[float, ...] = LATENTS_STD


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


def check_vae(path: Path) -> VaeConfig:
    """Check the names and shapes of a VAE without reading its weights, and return its configuration.

    `path` is as for `load_vae`. Raises `CheckpointError` when it is missing, damaged, or another network.
    """
    return _inspect(path)[0]


def load_vae(path: Path, *, dtype: torch.dtype, device: torch.device) -> Vae:
    """Load the decoder of a Wan 2.1 VAE. Never touches the network.

    `path` is ``Wan2.1_VAE.pth``, a safetensors file in the same original names or in diffusers' names, or
    a diffusers folder (``config.json`` and ``diffusion_pytorch_model.safetensors``). The encoder's tensors
    are checked but never read. Raises `CheckpointError` as `check_vae` does.
    """
    config, file, model = _inspect(path)
    renames = diffusers_names(file.entries)
    model.encoder = model.quant_conv = None
    decoder_names = {name for name in file.entries if renames[name].startswith(DECODER_PARTS)}
    fill(model, _Part(file, decoder_names), renames, dtype=dtype, device=device, what=WHAT)
    return Vae(config, model.eval(), _stages(model.decoder), dtype, device)


def vae_config(path: Path, file: WeightFile) -> VaeConfig:
    """The configuration of a VAE: from ``config.json`` if `path` is a folder, else from the shapes in `file`.

    Raises `CheckpointError` for the VAE of another model.
    """
    if path.is_dir():
        return _config_from_json(path / "config.json")
    shapes = {new: file.entries[old].shape for old, new in diffusers_names(file.entries).items()}
    head, latent = (shapes.get(name, ()) for name in ("decoder.norm_out.gamma", "post_quant_conv.bias"))
    if not head or not latent:
        raise CheckpointError(f"{file.path}: is not {WHAT}: it lacks decoder.norm_out or post_quant_conv")
    if latent[0] != Z_DIM:
        raise CheckpointError(f"{file.path}: has {latent[0]} latent channels; {WHAT} has {Z_DIM}")
    return VaeConfig(base_dim=head[0])


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


@dataclass(frozen=True)
class _Part:
    """Some of the tensors of a weight file, as a weight file."""

    file: WeightFile
    names: Collection[str]

    @property
    def path(self) -> Path:
        return self.file.path

    @property
    def entries(self) -> Mapping[str, TensorEntry]:
        return {name: self.file.entries[name] for name in self.names}

    @property
    def fingerprint(self) -> str:
        return self.file.fingerprint

    def load(self, name: str) -> torch.Tensor:
        return self.file.load(name)


def _inspect(path: Path) -> tuple[VaeConfig, WeightFile, Any]:
    """Open the file and compare it with the whole network, built without memory."""
    file = open_weights(vae_file(path))
    config = vae_config(path, file)
    with torch.device("meta"):
        model = AutoencoderKLWan(base_dim=config.base_dim, z_dim=Z_DIM)
    check(model, file, diffusers_names(file.entries), what=WHAT)
    return config, file, model


def vae_file(path: Path) -> Path:
    """The file with the weights of a VAE given as a file or a diffusers folder."""
    return path / DIFFUSERS_WEIGHTS if path.is_dir() else path


def diffusers_names(names: Iterable[str]) -> dict[str, str]:
    """Names in a file to diffusers' names. Its converter moves values unseen, so it can move names."""
    converted: dict[str, str] = convert_wan_vae_to_diffusers({name: name for name in names})
    return {old: new for new, old in converted.items()}


def _config_from_json(path: Path) -> VaeConfig:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); a diffusers VAE needs it") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is not JSON; download it again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: is not a diffusers config; download it again")
    for key, value in ARCHITECTURE.items():
        if found.get(key, value) != value:
            raise CheckpointError(f"{path}: {key} is {found[key]!r}; {WHAT} has {value!r}")
    base_dim = found.get("base_dim", 96)
    if type(base_dim) is not int or base_dim < 1:
        raise CheckpointError(f"{path}: base_dim is {base_dim!r}, not a width")
    mean = _per_channel(path, "latents_mean", found.get("latents_mean", LATENTS_MEAN))
    std = _per_channel(path, "latents_std", found.get("latents_std", LATENTS_STD))
    return VaeConfig(base_dim, mean, std)


def _per_channel(path: Path, key: str, values: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {key} is not a list of numbers") from error
    if len(numbers) != Z_DIM:
        raise CheckpointError(f"{path}: {key} has {len(numbers)} values; {WHAT} has {Z_DIM}")
    return numbers


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
