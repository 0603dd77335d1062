"""What a person or a program gives for a device, a number format and adapters, in the one form that is kept.

PyTorch's own values are taken without importing PyTorch: they can only come from somebody who did.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from holo_lite.config import Expert
from holo_lite.errors import SettingsError
from holo_lite.reading import values
from holo_lite.system.record_fields import FileName

if TYPE_CHECKING:
    import torch

Loras = Mapping[Expert, Sequence[tuple[FileName, float]]]  # files and strengths, by expert
GivenLora = str | Path | tuple[str | Path, float]  # a file, or one with its strength
GivenLoras = Mapping[str, GivenLora | Sequence[GivenLora]]  # by expert: high, low, high_noise or low_noise
EXPERTS: Mapping[str, Expert] = {
    "high": "high_noise",
    "low": "low_noise",
    "high_noise": "high_noise",
    "low_noise": "low_noise",
}
DTYPES = {"torch.bfloat16": "bf16", "torch.float32": "fp32"}
SUCH = '{"high": "a.safetensors"} or {"high": ("a.safetensors", 0.8)}'


def dtype_text(dtype: str | torch.dtype) -> str:
    """The name of a number format: a text as it is, PyTorch's as settings name it. Raises `SettingsError`."""
    if _is_torchs(dtype, "dtype") and str(dtype) not in DTYPES:
        raise SettingsError(f"dtype {dtype}: give {' or '.join(DTYPES)}, or 'auto'")
    named = DTYPES.get(str(dtype), dtype)
    if not isinstance(named, str):
        raise values.wrong("dtype", dtype, "auto, bf16, fp32 or a torch.dtype")
    return named


def device_text(device: str | torch.device) -> str:
    """The name of a device. Raises `SettingsError` for what is neither a text nor PyTorch's."""
    if not isinstance(device, str) and not _is_torchs(device, "device"):
        raise values.wrong("device", device, "auto, cpu, cuda, cuda:0 or a torch.device")
    return str(device)


def adapters_by_expert(lora: GivenLoras | None) -> Loras:
    """Files and strengths by expert; a file without a strength has 1. Raises `SettingsError`."""
    if lora is None:
        return {}
    if not isinstance(lora, Mapping):
        raise values.wrong("lora", lora, f"files by expert, such as {SUCH}")
    found: dict[Expert, list[tuple[FileName, float]]] = {}
    for key, given in lora.items():
        if key not in EXPERTS:
            raise SettingsError(f"lora: {values.shown(key)} is not an expert; give high or low, such as {SUCH}")
        found.setdefault(EXPERTS[key], []).extend(_files(f"lora {key}", given))
    return found


def _files(name: str, given: GivenLora | Sequence[GivenLora]) -> Iterator[tuple[FileName, float]]:
    for each in given if isinstance(given, list | tuple) and not _is_pair(given) else (given,):
        file, strength = each if _is_pair(each) else (each, 1.0)
        if not isinstance(file, str | Path):
            raise values.wrong(name, file, f"a file, or a file and its strength, such as {SUCH}")
        yield file, _strength(name, strength)


def _strength(name: str, strength: object) -> float:
    number = values.real(f"{name}: strength", strength)
    if not math.isfinite(number):
        raise SettingsError(f"{name}: strength {number}: give a finite number such as 0.8")
    return number


def _is_pair(given: object) -> TypeGuard[tuple[str | Path, float]]:
    """Whether it is one file and its strength, not a list of two files."""
    return isinstance(given, tuple) and len(given) == 2 and not isinstance(given[1], str | Path | tuple | list)


def _is_torchs(value: object, kind: str) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, kind))
