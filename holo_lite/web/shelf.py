"""What lies in the folders that may be used, each by an id: models, adapters, storyboards.

Pages name things by ids alone; nothing that a page says is ever made part of a path. An id is a hash of the path,
so it is the same after a restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from holo_lite.config import Attention, Defaults
from holo_lite.errors import HoloError, SettingsError
from holo_lite.tiny.model import NAME as TINY, tiny_model
from holo_lite.weights.manifest import FILE_NAME, read_manifest

DEEPEST = 3  # folders below the workspace in which a model is looked for
ADAPTERS = "loras"  # the folder of adapters, in the workspace


@dataclass(frozen=True)
class ShelfItem:
    """Something that can be chosen: its id, its name for a person, and where it is (None: built in)."""

    id: str
    name: str
    path: Path | None
    summary: str = ""
    attention: Attention = "sparse"
    defaults: Defaults = Defaults()  # noqa: RUF009


def id_of(path: Path) -> str:
    """The id of a path."""
    return hashlib.sha256(str(path.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def models(folder: Path, named: Iterable[Path] = ()) -> list[ShelfItem]:
    """Models that were named, those in the folder, and as the last the built-in one."""
    paths = dict.fromkeys(path.absolute() for path in (*named, *_model_folders(folder)))
    return [*(item for path in paths if (item := _model(path)) is not None), _built_in()]


def adapters(folder: Path) -> list[ShelfItem]:
    """The adapters in the folder's own folder of them."""
    place = folder / ADAPTERS
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else []
    return [ShelfItem(id_of(file), file.stem, file.absolute()) for file in files]


def storyboards(folder: Path) -> list[ShelfItem]:
    """The storyboard files in the folder itself, the newest first."""
    files = [
        file for file in folder.iterdir() if file.suffix.lower() in {".toml", ".json", ".txt"} and file.is_file()
    ]
    files.sort(key=lambda file: (-file.stat().st_mtime, file.name))
    return [ShelfItem(id_of(file), file.name, file.absolute()) for file in files]


def pick(items: Iterable[ShelfItem], chosen: str, what: str) -> ShelfItem:
    """The item of that id. Raises `SettingsError` for one that is not there, or not any more."""
    for item in items:
        if item.id == chosen:
            return item
    raise SettingsError(f"this {what} is not there any more; choose another one")


def _built_in() -> ShelfItem:
    manifest = read_manifest(tiny_model())
    name = f"{TINY} (coloured shapes, to try things out)"
    return ShelfItem(TINY, name, None, manifest.scheme, manifest.attention, manifest.defaults)


def _model(path: Path) -> ShelfItem | None:
    """A converted model, or files as they were released."""
    if not (path / FILE_NAME).is_file():
        return ShelfItem(id_of(path), path.name, path, "as released") if path.is_dir() else None
    try:
        manifest = read_manifest(path)
    except HoloError:
        return None
    kind = manifest.attention
    return ShelfItem(id_of(path), path.name, path, f"{kind}, {manifest.scheme}", kind, manifest.defaults)


def _model_folders(folder: Path, depth: int = DEEPEST) -> Iterator[Path]:
    if (folder / FILE_NAME).is_file():
        yield folder
        return
    if depth:
        try:
            below = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
        except OSError:
            return
        for each in below:
            yield from _model_folders(each, depth - 1)
