"""A VAE's file in diffusers' own network, for tests that compare with it."""

import torch
from diffusers import AutoencoderKLWan

from holo_lite.film.vae_files import WHAT, diffusers_names, open_vae
from holo_lite.film.vae_shapes import Z_DIM
from holo_lite.weights.fill import fill


def diffusers_vae(path, *, dtype):
    """The file's config, and the whole network on the CPU."""
    config, file = open_vae(path)
    with torch.device("meta"):
        model = AutoencoderKLWan(base_dim=config.base_dim, z_dim=Z_DIM)
    fill(model, file, diffusers_names(file.entries), dtype=dtype, device=torch.device("cpu"), what=WHAT)
    return config, model.eval()
