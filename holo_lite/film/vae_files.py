"""VAE files: two layouts, one naming.

People hold the Wan 2.1 VAE as the original ``Wan2.1_VAE.pth``, as safetensors in the same names, or as a diffusers
folder in that library's names; some tools put a prefix before each name. `open_vae` makes them one: every tensor by
its name in diffusers' `AutoencoderKLWan`, and the width of the network read off the shapes or from ``config.json``.
Only headers are read here, and the library itself is not needed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holo_lite.errors import CheckpointError
from holo_lite.film.vae_shapes import PER_LEVEL, Z_DIM, vae_shapes
from holo_lite.reading.files import read_text
from holo_lite.reading.trees import parse_json
from holo_lite.weights.files import open_weights
from holo_lite.weights.fill import ExpectedTensor, compare
from holo_lite.weights.weight_file import WeightFile

WHAT = "the Wan 2.1 VAE"
VAE_NAME = "AutoencoderKLWan"
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"

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

PREFIXES = ("model.", "vae.", "first_stage_model.")  # which other tools put before every name
HALF = r"^(encoder|decoder)\."
UP = re.compile(r"^decoder\.upsamples\.(\d+)\.")
RENAMES = (  # original names to diffusers'
    (r"^conv1\.", r"quant_conv."),
    (r"^conv2\.", r"post_quant_conv."),
    (HALF + r"conv1\.", r"\1.conv_in."),
    (HALF + r"head\.0\.", r"\1.norm_out."),
    (HALF + r"head\.2\.", r"\1.conv_out."),
    (HALF + r"middle\.0\.", r"\1.mid_block.resnets.0."),
    (HALF + r"middle\.1\.", r"\1.mid_block.attentions.0."),
    (HALF + r"middle\.2\.", r"\1.mid_block.resnets.1."),
    (r"^encoder\.downsamples\.", r"encoder.down_blocks."),
    (r"\.residual\.0\.", r".norm1."),
    (r"\.residual\.2\.", r".conv1."),
    (r"\.residual\.3\.", r".norm2."),
    (r"\.residual\.6\.", r".conv2."),
    (r"\.shortcut\.", r".conv_shortcut."),
)


@dataclass(frozen=True)
class VaeConfig:
    """The width of the VAE and the scale of its latents; everything else is Wan 2.1's."""

    base_dim: int
    latents_mean: tuple[float, ...] = LATENTS_MEAN
    latents_std: tuple[float, ...] = LATENTS_STD


def check_vae(path: Path) -> VaeConfig:
    """Check the names and shapes of a VAE without reading its weights, and return its configuration.

    `path` is ``Wan2.1_VAE.pth``, a safetensors file in the same original names or in diffusers' names, or a
    diffusers folder. Raises `CheckpointError` when it is missing, damaged, or another network.
    """
    return open_vae(path)[0]


def open_vae(path: Path) -> tuple[VaeConfig, WeightFile]:
    """Open a VAE and check its names and shapes; no weight is read. Raises `CheckpointError` as `check_vae`."""
    file = open_weights(vae_file(path))
    config = vae_config(path, file)
    wanted = {name: ExpectedTensor(shape) for name, shape in vae_shapes(config.base_dim).items()}
    compare(wanted, file, diffusers_names(file.entries), what=WHAT)
    return config, file


def vae_config(path: Path, file: WeightFile) -> VaeConfig:
    """The configuration of a VAE: from ``config.json`` if `path` is a folder, else from the shapes in `file`.

    Raises `CheckpointError` for the VAE of another model.
    """
    if path.is_dir():
        return vae_config_of(path / "config.json")
    shapes = {new: file.entries[old].shape for old, new in diffusers_names(file.entries).items()}
    head, latent = (shapes.get(name, ()) for name in ("decoder.norm_out.gamma", "post_quant_conv.bias"))
    if not head or not latent:
        raise CheckpointError(f"{file.path}: is not {WHAT}: it lacks decoder.norm_out or post_quant_conv")
    if latent[0] != Z_DIM:
        raise CheckpointError(f"{file.path}: has {latent[0]} latent channels; {WHAT} has {Z_DIM}")
    return VaeConfig(base_dim=head[0])


def vae_file(path: Path) -> Path:
    """The file with the weights of a VAE given as a file or a diffusers folder."""
    return path / DIFFUSERS_WEIGHTS if path.is_dir() else path


def diffusers_names(names: Iterable[str]) -> dict[str, str]:
    """Names in a file, in either naming, to diffusers' names. A prefix goes if all names share it."""
    listed = list(names)
    prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in listed)), "")
    return {name: _module_name(name.removeprefix(prefix)) for name in listed}


def _module_name(name: str) -> str:
    """The name in diffusers' module. Its decoder groups what the original counts through."""
    if match := UP.match(name):
        level, index = divmod(int(match[1]), PER_LEVEL + 2)
        part = f"resnets.{index}" if index <= PER_LEVEL else "upsamplers.0"
        name = f"decoder.up_blocks.{level}.{part}.{name[match.end() :]}"
    for original, ours in RENAMES:
        name = re.sub(original, ours, name)
    return name


def vae_config_of(path: Path) -> VaeConfig:
    """What a diffusers ``config.json`` says of a VAE. Raises `CheckpointError` for that of another model."""
    try:
        found = parse_json(read_text(path))
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
    if not all(map(math.isfinite, numbers)) or (key == "latents_std" and min(numbers, default=1) <= 0):
        raise CheckpointError(f"{path}: {key} holds a number that no VAE has; download it again")
    if len(numbers) != Z_DIM:
        raise CheckpointError(f"{path}: {key} has {len(numbers)} values; {WHAT} has {Z_DIM}")
    return numbers
