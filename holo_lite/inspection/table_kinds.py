"""What a JSON or TOML file is, by its keys; by its name where it is too damaged to have any."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from holo_lite.config import FIXED, Defaults, DiTConfig
from holo_lite.errors import RecordError
from holo_lite.inspection.kinds import Kind
from holo_lite.plan.profile import KEYS as PROFILE_KEYS
from holo_lite.reading.files import read_bytes, read_text
from holo_lite.reading.trees import parse, parse_toml
from holo_lite.system.caches import CACHE_PARTS, COLOURS

Keys = frozenset[str]
DEFAULTS_FILE, SIZES_FILE = "defaults.json", "dit_config.json"
BY_NAME: Mapping[str, Kind] = {
    "run.json": "run",
    "model.json": "converted model",
    "quality.json": "conversion report",
    "tokenizer.json": "tokenizer",
    SIZES_FILE: "expert sizes",
    DEFAULTS_FILE: "model defaults",
    "config.json": "library config",
    "adapter_config.json": "LoRA settings",
    **{f"{part.name}.json": "cache table" for part in CACHE_PARTS if part.keys is not None},
}
RECIPE_KEYS = {"scheme", "components", "rule"}
OF_STORYBOARDS = {"global", "prompt", "shot", "shots", "title"}
PROFILE_ALONE = PROFILE_KEYS - {"cfg"}  # which a storyboard has, too
SIZES = {field.name for field in dataclasses.fields(DiTConfig)} | set(FIXED)
DEFAULTS = {field.name for field in dataclasses.fields(Defaults)}
BY_KEYS: tuple[tuple[Kind, Callable[[Keys], bool]], ...] = (
    ("run", lambda keys: "holo_lite_run" in keys),
    ("converted model", lambda keys: {"format", "components"} <= keys),
    ("video settings", lambda keys: {"storyboard", "seed", "steps"} <= keys),
    ("conversion report", lambda keys: {"summary", "blocks", "worst"} <= keys),
    ("checkpoint", lambda keys: "weight_map" in keys),
    ("LoRA settings", lambda keys: bool(keys & {"peft_type", "lora_alpha"})),
    ("library config", lambda keys: bool(keys & {"_class_name", "model_type", "architectures"})),
    ("tokenizer", lambda keys: {"model", "added_tokens"} <= keys),
    ("cache table", lambda keys: bool(keys) and any(map_of(part.name, keys) for part in CACHE_PARTS)),
    ("expert sizes", lambda keys: "num_heads" in keys and keys <= SIZES),
)


def json_kind(path: Path) -> Kind:
    """What a JSON file is; a storyboard if nothing else."""
    named = BY_NAME.get(path.name)
    try:
        found = parse(read_bytes(path))
    except (OSError, RecordError):
        return named or "storyboard"
    keys = frozenset(found) if isinstance(found, dict) else frozenset()
    kind = next((kind for kind, fits in BY_KEYS if fits(keys)), None)
    return kind or ("storyboard" if keys & OF_STORYBOARDS else named or "storyboard")


def toml_kind(path: Path) -> Kind:
    """What a TOML file is; a storyboard if nothing else."""
    try:
        keys = parse_toml(read_text(path)).keys()
    except (OSError, ValueError):
        return "storyboard"
    if keys & OF_STORYBOARDS:
        return "storyboard"
    if keys & PROFILE_ALONE:
        return "profile"
    return "recipe" if keys & RECIPE_KEYS else "storyboard"


def is_library_folder(path: Path) -> bool:
    """Whether a folder is one network of diffusers or transformers: a config, and weights next to it."""
    config = path / "config.json"
    return config.is_file() and json_kind(config) == "library config" and any(path.glob("*.safetensors*"))


def map_of(name: str, keys: Keys) -> bool:
    """Whether these are the keys of the cache's table of that name."""
    if name == COLOURS.name:
        return keys == {"weight", "bias"}
    part = next(part for part in CACHE_PARTS if part.name == name)
    return part.keys is not None and all(part.keys.fullmatch(key) for key in keys)
