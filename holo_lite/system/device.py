"""Where to compute."""

from __future__ import annotations

import torch

from holo_lite.errors import SettingsError


def pick_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` is the first CUDA card, or the CPU. Raises `SettingsError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"device '{name}': give auto, cpu, cuda or cuda:0") from error
    if name != "cpu" and device.type != "cuda":
        raise SettingsError(f"device '{name}': give auto, cpu, cuda or cuda:0")
    count = torch.cuda.device_count()
    if device.type == "cuda" and not count:
        raise SettingsError(
            f"device '{name}': PyTorch sees no CUDA card here; give cpu, or install its build for CUDA"
        )
    if (device.index or 0) >= max(count, 1):
        raise SettingsError(f"device '{name}': the CUDA cards here are cuda:0 to cuda:{count - 1}")
    return device
