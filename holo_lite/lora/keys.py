"""How adapters name their tensors.

    kohya, musubi    lora_unet_blocks_0_self_attn_q.lora_down.weight, .lora_up.weight, .alpha
    diffusers, peft  transformer.blocks.0.attn1.to_q.lora_A.weight, base_model.model.….lora_A.default.weight
    lightx2v         diffusion_model.blocks.0.self_attn.q.lora_down.weight, .diff, .diff_b, blocks.0.diff_m

All of them say: which module, and which role the tensor plays in changing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from holo_lite.errors import CheckpointError
from holo_lite.reading import parse_json, read_bytes
from holo_lite.weights.header import read_header
from holo_lite.weights.names import PREFIXES, own_name, own_name_of_flat

Role = Literal["up", "down", "alpha", "up_bias", "diff", "diff_b", "diff_m"]
FLAT_PREFIXES = ("lora_unet__", "lora_unet_", "lora_transformer_", "lycoris_")
DOTTED_PREFIXES = ("base_model.model.", "transformer_2.", *PREFIXES)
ROLES: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("down", re.compile(r"(.+)\.(?:lora_down|lora_A|lora\.down)(?:\.[^.]+)?\.weight")),
    ("up", re.compile(r"(.+)\.(?:lora_up|lora_B|lora\.up)(?:\.[^.]+)?\.weight")),
    ("up_bias", re.compile(r"(.+)\.(?:lora_up|lora_B)(?:\.[^.]+)?\.bias")),
    ("alpha", re.compile(r"(.+)\.alpha")),
    ("diff", re.compile(r"(.+)\.diff")),
    ("diff_b", re.compile(r"(.+)\.diff_b")),
    ("diff_m", re.compile(r"(.+)\.diff_m")),
)
SETTINGS_KEY = "lora_adapter_metadata"  # where diffusers keeps an adapter's settings in a safetensors header
SETTINGS_FILE = "adapter_config.json"  # and where peft does, next to its adapter_model.safetensors
NOT_DONE = ("alpha_pattern", "use_rslora", "use_dora")


@dataclass(frozen=True)
class Key:
    """What one tensor of an adapter is for: the module it changes, by the model's name, and its role."""

    module: str
    role: Role


def parse_key(key: str) -> Key | None:
    """Read a tensor's name. None if it is of no kind known here; the module need not exist."""
    for role, pattern in ROLES:
        if match := pattern.fullmatch(key):
            return Key(_module(match[1]), role)
    return None


def declared_alpha(path: Path) -> float | None:
    """The alpha of adapters whose tensors do not say it: from the header, or a file next to it. None if not given.

    Raises `CheckpointError` for settings that change the arithmetic in a way that is not done here.
    """
    alpha = None
    for settings in _settings(path):
        for name, value in settings.items():
            if value and name.rpartition(".")[2] in NOT_DONE:
                raise CheckpointError(
                    f"{path}: sets {name}, which holo-lite does not support; merge it with peft first"
                )
            if name.rpartition(".")[2] == "lora_alpha" and isinstance(value, int | float):
                alpha = float(value)
    return alpha


def _module(name: str) -> str:
    for prefix in FLAT_PREFIXES:
        if name.startswith(prefix):
            return own_name_of_flat(name.removeprefix(prefix))
    for prefix in DOTTED_PREFIXES:
        name = name.removeprefix(prefix)
    return own_name(name)


def _settings(path: Path) -> Iterator[dict[str, object]]:
    beside = path.parent / SETTINGS_FILE
    if path.stem == "adapter_model" and beside.is_file():
        yield _table(beside, _text(beside))
    if path.suffix == ".safetensors" and SETTINGS_KEY in (metadata := read_header(path).metadata):
        yield _table(path, metadata[SETTINGS_KEY])


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8", "replace")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check the file") from error


def _table(path: Path, text: str) -> dict[str, object]:
    try:
        found = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: its LoRA settings are not JSON; download it again") from error
    return found if isinstance(found, dict) else {}
