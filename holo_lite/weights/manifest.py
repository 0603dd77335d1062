"""``model.json``: what a converted model folder holds, and where all of it came from.

The manifest is read before anything else in the folder. It says of every tensor under which scheme it is
stored, of every shard how large it is and what it hashes to, and keeps the sources, tools and licence the
model was made with. ``sections`` is for later additions that a reader may ignore. See docs/format.md.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from holo_lite.config import ATTENTIONS, Attention, Defaults
from holo_lite.errors import CheckpointError

FORMAT_VERSION = 1
FILE_NAME = "model.json"
JOURNAL = "journal.jsonl"  # in its place while a conversion is unfinished
PREVIEW = "preview"  # the section with the VAE's colours
PLAIN = "plain"  # the scheme of a tensor stored as it is


@dataclass(frozen=True)
class Shard:
    """A file of a component: its name within the folder, bytes, hash, and the block it holds (None: the rest)."""

    file: str
    nbytes: int
    sha256: str
    block: int | None = None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the model knows it: its scheme, its shape, and the dtype it had before (``bfloat16``)."""

    scheme: str
    shape: tuple[int, ...]
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
    nbytes: int
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
    format: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Write the manifest; the same manifest always gives the same text."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"


def is_converted(path: Path) -> bool:
    """Whether a path is a component's folder in a converted model."""
    return path.is_dir() and (path.parent / FILE_NAME).is_file()


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a converted model. Raises `CheckpointError` if it is damaged or of another version."""
    path = folder / FILE_NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: is not the manifest of a converted model; convert the model again"
        ) from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: is of format {version!a:.40}, this holo-lite reads format {FORMAT_VERSION}; "
            "update holo-lite, or convert the model again"
        )
    try:
        return _rebuild(found)
    except KeyError as error:
        raise CheckpointError(f"{path}: is damaged, it lacks {error}; convert the model again") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged ({error!s:.120}); convert the model again") from error


def _rebuild(found: Mapping[str, Any]) -> Manifest:
    known = {name: found[name] for name in (f.name for f in dataclasses.fields(Manifest)) if name in found}
    known["components"] = {role: _component(value) for role, value in found["components"].items()}
    known["sources"] = tuple(_typed(SourceFile, source) for source in found["sources"])
    known["loras"] = {role: tuple(names) for role, names in found["loras"].items()}
    known["defaults"] = _typed(Defaults, found["defaults"])
    if found["attention"] not in ATTENTIONS:
        raise ValueError(f"attention {found['attention']!a:.40}")
    for name in (*found["files"], *(shard.file for part in known["components"].values() for shard in part.shards)):
        _check_inside(name)
    return Manifest(**known)


def _component(found: Mapping[str, Any]) -> Component:
    tensors = {name: _typed(StoredTensor, value) for name, value in found["tensors"].items()}
    shards = tuple(_typed(Shard, shard) for shard in found["shards"])
    return Component(dict(found["config"]), shards, tensors)


Record = TypeVar("Record", Shard, SourceFile, StoredTensor, Defaults)
# The types of the records' fields, looked up once: it takes longer than all else about a record.
FIELDS = {kind: get_type_hints(kind) for kind in (Shard, SourceFile, StoredTensor, Defaults)}


def _typed(kind: type[Record], found: Mapping[str, Any]) -> Record:
    """Build a record of a JSON table's values. Raises `TypeError` for one of another type."""
    hints = FIELDS[kind]
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in found.items()
    }
    for name, value in values.items():
        if name not in hints or not _suits(value, hints[name]):
            raise TypeError(f"{name!a:.40}: {value!a:.40}")
    return kind(**values)


def _suits(value: object, hint: Any) -> bool:
    if hint == tuple[int, ...]:
        return isinstance(value, tuple) and all(type(item) is int and item >= 0 for item in value)
    return not isinstance(value, bool) and isinstance(value, int | float if hint is float else hint)


def _check_inside(name: object) -> None:
    """Raise `ValueError` for the name of a file that does not lie in the model's folder or one below it."""
    parts = name.split("/") if isinstance(name, str) and name.isprintable() else [""]
    if {"", ".", ".."} & set(parts) or set(str(name)) & set("\\:"):
        raise ValueError(f"names {name!a:.80}, which is no file in this folder")
