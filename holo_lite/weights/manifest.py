"""``model.json``: what a converted model folder holds, and where all of it came from.

The manifest is read before anything else in the folder. It says of every tensor under which scheme it is
stored, of every shard how large it is and what it hashes to, and keeps the sources, tools and licence the
model was made with. ``sections`` is for later additions that a reader may ignore. See docs/format.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from holo_lite.config import Attention, Defaults
from holo_lite.errors import CheckpointError, LaterRecordError, RecordError
from holo_lite.reading.files import read_bytes
from holo_lite.reading.trees import parse
from holo_lite.system.record_fields import Natural
from holo_lite.system.records import Codec, Origin

FILE_NAME = "model.json"
JOURNAL = "journal.jsonl"  # in its place while a conversion is unfinished
PREVIEW = "preview"  # the section with the VAE's colours
BASE_MODEL = Origin(version=2, runs_from=1)  # the base model, and guidance and shift of its own
PLAIN = "plain"  # the scheme of a tensor stored as it is


@dataclass(frozen=True)
class Shard:
    """A file of a component: its name within the folder, bytes, hash, and the block it holds (None: the rest)."""

    file: str
    nbytes: Natural
    sha256: str
    block: Natural | None = None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the model knows it: its scheme, its shape, and the dtype it had before (``bfloat16``)."""

    scheme: str
    shape: tuple[Natural, ...]
    dtype: str


@dataclass(frozen=True)
class Component:
    """One network: its sizes, its files in the order in which they are needed, its tensors."""

    config: Mapping[str, Any]
    shards: tuple[Shard, ...]
    tensors: Mapping[str, StoredTensor]

    @property
    def nbytes(self) -> int:
        """Size on disk."""
        return sum(shard.nbytes for shard in self.shards)


@dataclass(frozen=True)
class SourceFile:
    """A file the model was made from."""

    file: str
    nbytes: Natural
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything about a converted model but its numbers."""

    scheme: str
    attention: Attention
    components: Mapping[str, Component]
    defaults: Defaults = Defaults()  # noqa: RUF009
    files: Mapping[str, str] = field(default_factory=dict)  # sha256 of the small files next to the shards
    sources: tuple[SourceFile, ...] = ()
    loras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    sections: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin = BASE_MODEL  # a change of any field is a new format

    def to_json(self) -> str:
        """Write the manifest; the same manifest always gives the same text."""
        return MANIFEST.write(self, indent=1) + "\n"


def is_converted(path: Path) -> bool:
    """Whether a path is a component's folder in a converted model."""
    return path.is_dir() and (path.parent / FILE_NAME).is_file()


def read_manifest(folder: Path, *, to_run: bool = True) -> Manifest:
    """Read the manifest of a converted model, to run the model or only to look at it.

    Raises `CheckpointError` if it is damaged, or of a later holo-lite, which this one must not run from.
    """
    path = folder / FILE_NAME
    try:
        found = _manifest_of(read_bytes(path), to_run=to_run)
    except OSError as error:
        raise _no_manifest(path) from error
    except LaterRecordError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except RecordError as error:
        raise CheckpointError(f"{path}: is damaged ({error}); convert the model again") from error
    if found is None:
        raise _no_manifest(path)
    return found


@lru_cache(maxsize=4)
def _manifest_of(data: bytes, *, to_run: bool) -> Manifest | None:
    """What the bytes of a manifest say; None if they are of none.

    Each part of a model asks when it is opened, ten times in a short run, and the same bytes say the same.
    """
    try:
        found = parse(data)
    except RecordError:
        return None
    if not isinstance(found, dict) or MANIFEST.key not in found:
        return None
    return MANIFEST.of_table(found, to_run=to_run)


def check_shards(folder: Path, component: Component) -> None:
    """Raise `CheckpointError` for a component's file that is missing, or of another size than was written."""
    for shard in component.shards:
        file = folder / shard.file
        size = file.stat().st_size if file.is_file() else -1
        if size != shard.nbytes:
            state = f"has {size} bytes, not {shard.nbytes}" if size >= 0 else "is missing"
            raise CheckpointError(f"{file}: {state}; convert the model again into an empty folder")


def _no_manifest(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: is not the manifest of a converted model; convert the model again")


def _check_names(manifest: Manifest) -> None:
    """Raise `CheckpointError` for a file that does not lie in the model's folder or one below it."""
    shards = (shard.file for part in manifest.components.values() for shard in part.shards)
    for name in (*manifest.files, *shards):
        _check_inside(name)


def _check_inside(name: str) -> None:
    parts = name.split("/") if name.isprintable() else [""]
    if {"", ".", ".."} & set(parts) or set(name) & set("\\:"):
        raise CheckpointError(f"names {name!a:.80}, which is no file in this folder")


MANIFEST = Codec(
    Manifest,
    key="format",
    upgrades={1: dict},
    required=("scheme", "attention", "components", "defaults", "files", "sources", "loras"),
    sound=_check_names,
)
