"""How adapters name their tensors.

    kohya, musubi    lora_unet_blocks_0_self_attn_q.lora_down.weight, .lora_up.weight, .alpha
    diffusers, peft  transformer.blocks.0.attn1.to_q.lora_A.weight, base_model.model.….lora_A.default.weight
    lightx2v         diffusion_model.blocks.0.self_attn.q.lora_down.weight, .diff, .diff_b, blocks.0.diff_m
    ComfyUI          blocks.0.modulation.diff
    DiffSynth        pipe.dit.blocks.0.self_attn.q.lora_A.default.weight
    Mochi            blocks.0.self_attn.q.lora_A
    older diffusers  transformer.blocks.0.attn1.to_q_lora.down.weight, .to_q.lora_linear_layer.down.weight

All of them say: which module, and which role the tensor plays in changing it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from holo_lite.weights.names import PREFIXES, own_name, own_name_of_flat

Role = Literal["up", "down", "alpha", "up_bias", "diff", "diff_b", "diff_m"]
MODULATION = ".modulation"
FLAT_PREFIXES = ("lora_unet__", "lora_unet_", "lora_transformer_", "lycoris_")
DOTTED_PREFIXES = ("base_model.model.", "pipe.dit2.", "pipe.dit.", "dit.", "unet.", "transformer_2.", *PREFIXES)
ROLES: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("down", re.compile(r"(.+)\.(?:lora_down|lora_A|lora\.down)(?:(?:\.[^.]+)?\.weight)?")),
    ("up", re.compile(r"(.+)\.(?:lora_up|lora_B|lora\.up)(?:(?:\.[^.]+)?\.weight)?")),
    ("down", re.compile(r"(.+)(?:_lora|\.lora_linear_layer)\.down\.weight")),
    ("up", re.compile(r"(.+)(?:_lora|\.lora_linear_layer)\.up\.weight")),
    ("up_bias", re.compile(r"(.+)\.(?:lora_up|lora_B)(?:\.[^.]+)?\.bias")),
    ("alpha", re.compile(r"(.+)\.alpha")),
    ("diff", re.compile(r"(.+)\.diff")),
    ("diff_b", re.compile(r"(.+)\.diff_b")),
    ("diff_m", re.compile(r"(.+)\.diff_m")),
)

FORMS: tuple[tuple[str, re.Pattern[str]], ...] = (  # whose naming a key is in, the first that fits
    ("kohya's tools", re.compile(r"lora_unet_.+")),
    ("LyCORIS", re.compile(r"lycoris_.+")),
    ("peft", re.compile(r"base_model\.model\..+")),
    ("DiffSynth", re.compile(r"pipe\..+")),
    ("older diffusers", re.compile(r".+(_lora|\.lora_linear_layer)\.(up|down)\.weight")),
    ("diffusers", re.compile(r"(transformer(_2)?|unet)\..+|lora_transformer_.+|.+\.attn\d\..+")),
    ("ComfyUI or lightx2v", re.compile(r"(model\.)?diffusion_model\..+|.+\.diff(_[bm])?")),
    ("Mochi", re.compile(r".+\.lora_[AB]")),
)
PLAIN_FORM = "the model's own names"


@dataclass(frozen=True)
class Key:
    """What one tensor of an adapter is for: the module it changes, by the model's name, and its role."""

    module: str
    role: Role


def form_of(key: str) -> str:
    """Whose naming a tensor's name is in."""
    return next((form for form, pattern in FORMS if pattern.fullmatch(key)), PLAIN_FORM)


def parse_key(key: str) -> Key | None:
    """Read a tensor's name. None if it is of no kind known here; the module need not exist."""
    for role, pattern in ROLES:
        if match := pattern.fullmatch(key):
            return _key(_module(match[1]), role)
    return None


def _key(module: str, role: Role) -> Key:
    """A whole difference of a modulation, ``X.modulation.diff``, is the same as ``X.diff_m``."""
    if role == "diff" and module.endswith(MODULATION):
        return Key(module.removesuffix(MODULATION), "diff_m")
    return Key(module, role)


def _module(name: str) -> str:
    for prefix in FLAT_PREFIXES:
        if name.startswith(prefix):
            return own_name_of_flat(name.removeprefix(prefix))
    while prefix := next((prefix for prefix in DOTTED_PREFIXES if name.startswith(prefix)), ""):
        name = name.removeprefix(prefix)
    return own_name(name.replace(".processor.", "."))
