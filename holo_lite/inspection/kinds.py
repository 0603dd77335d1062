"""The kinds of things that `inspect` tells apart."""

from __future__ import annotations

from typing import Literal

Kind = Literal[
    "storyboard",
    "prompt",
    "video",
    "video settings",
    "picture",
    "run",
    "run state",
    "step cache",
    "model folder",
    "several models",
    "converted model",
    "model part",
    "block file",
    "conversion report",
    "interrupted conversion",
    "recipe",
    "profile",
    "checkpoint",
    "LoRA",
    "LoRA settings",
    "latents",
    "kept latents",
    "encoded prompt",
    "tokenizer",
    "expert sizes",
    "model defaults",
    "library config",
    "cache table",
    "missing",
    "unknown",
]
