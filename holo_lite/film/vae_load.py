"""Half of a VAE read from its file: the decoder without the encoder, or the encoder without the decoder.

The names are those of diffusers' `AutoencoderKLWan`, whose layers `vae_layers` computes. Nothing of that library is
needed here: importing it takes seconds, in which it brings PyTorch's compiler along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from holo_lite.film.vae_files import WHAT, VaeConfig, diffusers_names, open_vae
from holo_lite.film.vae_shapes import Shape, vae_shapes
from holo_lite.weights.fill import fill
from holo_lite.weights.weight_file import Excerpt

DECODER_PARTS = ("decoder", "post_quant_conv")
ENCODER_PARTS = ("encoder", "quant_conv")


class WeightTree(nn.Module):
    """Weights by the names of a network, and no way to run them: a child by its name, numbered ones in turn."""

    @classmethod
    def of(cls, shapes: Mapping[str, Shape]) -> WeightTree:
        """Build it without memory."""
        root = cls()
        for name, shape in shapes.items():
            *path, leaf = name.split(".")
            owner: nn.Module = root
            for step in path:
                if step not in dict(owner.named_children()):
                    owner.add_module(step, cls())
                owner = owner.get_submodule(step)
            owner.register_parameter(leaf, nn.Parameter(torch.empty(shape, device="meta"), requires_grad=False))
        return root

    def __iter__(self) -> Iterator[nn.Module]:
        """Its children, which were added in their order."""
        return self.children()


def load_half(
    path: Path, parts: tuple[str, ...], *, dtype: torch.dtype, device: torch.device
) -> tuple[VaeConfig, WeightTree]:
    """Load the decoder or the encoder, by the names of its parts; the other half is checked but never read.

    Raises `CheckpointError` as `check_vae`.
    """
    config, file = open_vae(path)
    inside, renames = tuple(f"{part}." for part in parts), diffusers_names(file.entries)
    wanted = {name: entry for name, entry in file.entries.items() if renames[name].startswith(inside)}
    shapes = {name: shape for name, shape in vae_shapes(config.base_dim).items() if name.startswith(inside)}
    tree = WeightTree.of(shapes)
    fill(tree, Excerpt(file, wanted), renames, dtype=dtype, device=device, what=WHAT)
    return config, tree
