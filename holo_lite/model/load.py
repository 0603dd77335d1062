"""From a file of weights to an expert that can run.

The original names are the model's own names. Files saved from other tools carry a prefix before each; it
is dropped here.
"""

from __future__ import annotations

from pathlib import Path

import torch

from holo_lite.config import DiTConfig, dit_config
from holo_lite.model.dit import WanDiT
from holo_lite.weights.files import WeightFile, open_weights
from holo_lite.weights.fill import check, fill, module_shapes

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.")
WHAT = "a Wan 2.2 T2V A14B expert"


def own_names(file: WeightFile) -> dict[str, str]:
    """Map the names in a file to the model's, dropping the prefix that all of them share."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in file.entries):
            return {name: name.removeprefix(prefix) for name in file.entries}
    return {name: name for name in file.entries}


def expert_config(file: WeightFile) -> DiTConfig:
    """Read an expert's sizes off its tensors. Raises `CheckpointError`."""
    names = own_names(file)
    return dit_config({names[name]: entry.shape for name, entry in file.entries.items()}, file.path)


def check_expert(path: Path) -> DiTConfig:
    """Look at names and shapes only. Raises `CheckpointError` if this is no expert, else its sizes."""
    file = open_weights(path)
    config = expert_config(file)
    check(module_shapes(_skeleton(config)), file, own_names(file), what=WHAT)
    return config


def load_expert(path: Path, *, dtype: torch.dtype, device: torch.device) -> WanDiT:
    """Open an expert in `dtype` on `device`; on the CPU in the file's dtype it stays mapped from disk.

    Raises `CheckpointError` for a file that is damaged or not an expert.
    """
    file = open_weights(path)
    model = _skeleton(expert_config(file))
    fill(model, file, own_names(file), dtype=dtype, device=device, what=WHAT)
    return model.eval()


def _skeleton(config: DiTConfig) -> WanDiT:
    with torch.device("meta"):
        return WanDiT(config)
