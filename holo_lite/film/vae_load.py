"""Half of a VAE read from its file: the decoder without the encoder, or the encoder without the decoder.

The network is diffusers' `AutoencoderKLWan`, of which only the layers are used. Its `from_single_file` asks the hub
for a config.
"""

from __future__ import annotations

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


def _network(config: VaeConfig) -> Any:
    """The whole network, without memory."""
    with without_remarks():
        from diffusers import AutoencoderKLWan  # seconds, which the first step need not wait for

    with torch.device("meta"):
        return AutoencoderKLWan(base_dim=config.base_dim, z_dim=Z_DIM)
