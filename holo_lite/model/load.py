"""From a file of weights to an expert that can run.

The original names are the model's own names. Files saved from other tools carry a prefix before each, or
diffusers' names; `holo_lite.weights.names` knows them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch

from holo_lite.config import DiTConfig, dit_config
from holo_lite.errors import CheckpointError
from holo_lite.model.compute import PLAIN, Compute
from holo_lite.model.dit import WanDiT
from holo_lite.model.linear import pack_linears
from holo_lite.weights import names
from holo_lite.weights.converted import ConvertedFile, packed_schemes
from holo_lite.weights.files import open_weights
from holo_lite.weights.fill import check, fill, module_shapes
from holo_lite.weights.scaled import network_of
from holo_lite.weights.weight_file import WeightFile

PREFIXES = names.PREFIXES
MOST = 2**20  # of any size of an expert: larger ones are mistakes
WHAT = "a Wan 2.2 T2V A14B expert"


def own_names(file: WeightFile) -> dict[str, str]:
    """Map the names in a file to the model's, whatever prefix or naming they carry."""
    if isinstance(file, ConvertedFile):
        return {}
    return names.own_names(file.entries)


def expert_config(file: WeightFile) -> DiTConfig:
    """Read an expert's sizes off its tensors. Raises `CheckpointError`."""
    if isinstance(file, ConvertedFile):
        return _manifest_config(file)
    own = own_names(file)
    return dit_config({own[name]: entry.shape for name, entry in file.entries.items()}, file.path)


def _manifest_config(file: ConvertedFile) -> DiTConfig:
    wrong = f"{file.path}: its manifest describes no expert; convert the model again"
    try:
        config = DiTConfig(**file.component.config)
    except TypeError as error:
        raise CheckpointError(wrong) from error
    sizes = [value for name, value in dataclasses.asdict(config).items() if name != "eps"]
    if not all(type(size) is int and 0 < size < MOST for size in sizes) or config.dim % config.num_heads:
        raise CheckpointError(wrong)
    return config


def describe_expert(file: WeightFile, known: DiTConfig | None = None) -> tuple[DiTConfig, tuple[str, ...]]:
    """The sizes of an expert, and the names of its tensors in the order in which they are used.

    `known` are its sizes, where they are known from elsewhere than the file. Raises `CheckpointError` if names or
    shapes are not an expert's.
    """
    config = known or expert_config(file)
    model = _skeleton(config, {})
    check(model, file, own_names(file), what=WHAT)
    return config, tuple(module_shapes(model))


def check_expert(path: Path) -> DiTConfig:
    """Check only names and shapes. Raises `CheckpointError` if this is not an expert, else returns its sizes.

    Scales next to weights in 8 bits are passed over: with them it is an expert, though not one that can run.
    """
    file = open_weights(path)
    network = network_of(file)
    config = expert_config(network)
    check(skeleton(network), network, own_names(network), what=WHAT)
    return config


def load_expert(path: Path, *, dtype: torch.dtype, device: torch.device, compute: Compute = PLAIN) -> WanDiT:
    """Read an expert, all of it, in `dtype` on `device`.

    Raises `CheckpointError` for a file that is damaged or not an expert.
    """
    file = open_weights(path)
    model = skeleton(file, compute)
    fill(model, file, own_names(file), dtype=dtype, device=device, what=WHAT)
    return model.eval()


def skeleton(file: WeightFile, compute: Compute = PLAIN) -> WanDiT:
    """The expert a file holds, without memory: packed where the file's weights are. Raises `CheckpointError`."""
    return _skeleton(expert_config(file), packed_schemes(file), compute)


def _skeleton(config: DiTConfig, schemes: Mapping[str, str], compute: Compute = PLAIN) -> WanDiT:
    with torch.device("meta"):
        model = WanDiT(config, compute)
        pack_linears(model, schemes)
    return model
