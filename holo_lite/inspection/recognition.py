"""What is at a path: the one place that decides, by name and place first, then by what the file holds."""

from __future__ import annotations

from pathlib import Path

from holo_lite.config import Attention
from holo_lite.inspection.kinds import Kind
from holo_lite.inspection.table_kinds import is_library_folder, json_kind, toml_kind
from holo_lite.inspection.tensor_kinds import is_part, weights_kind
from holo_lite.runs.folder_names import RECORD
from holo_lite.story.files import SUFFIXES as STORYBOARD_SUFFIXES, is_prompt
from holo_lite.weights.manifest import FILE_NAME, JOURNAL

WEIGHT_SUFFIXES = (".gguf", ".safetensors", ".index.json", ".pth", ".pt", ".bin")
VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv"}
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")  # what peft puts into a folder


def what_is(path: Path, attention: Attention | None = None) -> Kind:
    """Say what is at a path; reads headers and small files at most, and raises nothing for damaged ones.

    `attention` is what a person said of experts whose names do not tell.
    """
    if path.is_dir():
        return _folder_kind(path, attention)
    suffix = path.suffix.lower()
    if path.name.endswith(WEIGHT_SUFFIXES):
        return weights_kind(path) if path.is_file() else "checkpoint"
    if path.name == JOURNAL:
        return "interrupted conversion"
    if suffix == ".json":
        return json_kind(path)
    if suffix == ".toml":
        return toml_kind(path)
    if suffix in STORYBOARD_SUFFIXES:
        return "storyboard"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return _without_a_known_suffix(path)


def _without_a_known_suffix(path: Path) -> Kind:
    text = str(path)
    if is_prompt(text) and (len(text.split()) > 1 or not text.isascii()):
        return "prompt"
    if not path.exists():
        return "missing"
    return "picture" if path.suffix.lower() == ".png" and path.is_file() else "unknown"


def _folder_kind(path: Path, attention: Attention | None) -> Kind:
    if (path / RECORD).is_file():
        return "run"
    if (path / FILE_NAME).is_file():
        return "converted model"
    if (path / JOURNAL).is_file():
        return "interrupted conversion"
    if is_part(path) or is_library_folder(path):
        return "model part"
    if all((path / name).is_file() for name in ADAPTER):
        return "LoRA"
    from holo_lite.weights.folder import holds_several

    return "several models" if holds_several(path, attention) else "model folder"
