"""ComfyUI's folders: models in `models/holocine` and where extra_model_paths.yaml says, videos, scratch files."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import folder_paths

from .handles import NodeError
from .orders import Places

KIND = "holocine"
BUILT_IN = "holo-tiny (built in)"
MANIFEST = "model.json"
NETWORK = re.compile(r"[\\/]{2}")  # how the path of a file on another computer begins
BUILT_IN_FOLDER = Path(__file__).resolve().parents[1] / "tiny" / "weights"


def register() -> None:
    """Have ComfyUI know the kind of folder; what extra_model_paths.yaml said of it stays."""
    folder_paths.add_model_folder_path(KIND, os.path.join(folder_paths.models_dir, KIND))


def model_names() -> list[str]:
    """What can be chosen: the built-in model, and every folder with a model.json."""
    return [BUILT_IN, *sorted({path.name for path in _models()})]


def model_folder(name: str) -> str | None:
    """The folder of a name, the first of those that have it; None: the built-in one. Raises `NodeError`."""
    if name == BUILT_IN:
        return None
    for path in _models():
        if path.name == name:
            return str(path)
    raise NodeError(f"model '{name}': is not in {KIND}'s model folders any more; choose another")


def adapter_file(name: str) -> str:
    """An adapter's file: as it was named, or in ComfyUI's folders of LoRAs. Raises `NodeError`.

    A graph may be a stranger's, and Windows tells who is logged in to whatever computer a path names.
    """
    if NETWORK.match(name):
        raise NodeError(f"adapters: {name!a:.80} is on a network; put it into a folder of LoRAs")
    if os.path.isabs(name):
        return name
    found: str | None = folder_paths.get_full_path("loras", name)
    if found is None:
        raise NodeError(f"adapters: '{name}' is not in ComfyUI's folders of LoRAs; check the name")
    return os.path.abspath(found)


def mark_of(files: list[str]) -> str:
    """What changes when one of some files is replaced."""
    facts = [(file, found.st_size, found.st_mtime_ns) for file in files if (found := _stat(file)) is not None]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def places() -> Places:
    """Where videos go, and what may be thrown away."""
    out, scratch = folder_paths.get_output_directory(), folder_paths.get_temp_directory()
    return Places(Path(out).absolute() / KIND, Path(scratch).absolute() / KIND)


def input_folder() -> Path:
    """Where a person puts pictures for ComfyUI."""
    return Path(folder_paths.get_input_directory()).absolute()


def _models() -> Iterator[Path]:
    for folder in folder_paths.get_folder_paths(KIND):
        if os.path.isdir(folder):
            yield from sorted(path.parent.absolute() for path in Path(folder).glob(f"*/{MANIFEST}"))


def _stat(file: str) -> os.stat_result | None:
    try:
        return os.stat(file)
    except OSError:
        return None
