"""What is kept in the cache folder, how large it is, and clearing it.

Everything in there can be made again, at the cost of time. It is recognised by its name and, where a name could be
anybody's, by its content: the folder may be one that other files live in, by a slip in a variable even a home
folder, and clearing takes nothing but what was put there by us.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holo_lite.errors import RecordError
from holo_lite.reading.files import read_bytes
from holo_lite.reading.trees import parse
from holo_lite.system.cache_folder import cache_folder
from holo_lite.system.json_table import ASIDE, JsonTable

LARGEST_TABLE = 2**24  # bytes; ours are a thousandth of it


@dataclass(frozen=True)
class CachePart:
    """A kind of thing in the cache: files in a folder of their own, or one table.

    folder: "" for the cache's own; name: of its files; keys: of a JSON table, by which it is recognised.
    """

    name: str
    what: str
    folder: str
    files: re.Pattern[str]
    keys: re.Pattern[str] | None = None


def _table(name: str, what: str, keys: str) -> CachePart:
    """One JSON table."""
    return CachePart(name, what, "", _named(rf"{name}\.json"), re.compile(keys))


def _named(name: str) -> re.Pattern[str]:
    """Files of a name, what a process that was killed left of one, and one that was damaged and set aside."""
    return re.compile(rf"{name}({re.escape(ASIDE)})?|\.{name}\.\d+-\d+\.part")


COLOURS = CachePart("colours", "the colours of previews, by VAE", "colours", _named(r"[0-9a-f]{32}\.json"))
RATES = _table("rates", "how fast this machine computes", r".+, PyTorch \S+( \S+)*")
RUNGS = _table("rungs", "smaller plans that worked after memory ran out", r"[0-9a-f]{24}")
KERNELS = _table("kernels", "how fast attention kernels are on this machine", r".*, torch \S+, cudnn .*")
CACHE_PARTS = (
    CachePart("prompts", "encoded prompts", "prompts", _named(r"[0-9a-f]{64}\.safetensors")),
    *(COLOURS, RATES, RUNGS, KERNELS),
)


def table(part: CachePart, folder: Path, kind: Any) -> JsonTable[Any]:
    """The table of a part in a cache folder, with entries of a kind."""
    return JsonTable(folder / f"{part.name}.json", kind, part.what)


def sizes(folder: Path | None = None) -> Mapping[str, int]:
    """The bytes of each part, by its name, in the cache folder or another."""
    place = folder or cache_folder()
    return {part.name: sum(file.stat().st_size for file in _files(place, part)) for part in CACHE_PARTS}


def clear(folder: Path | None = None) -> int:
    """Remove everything of ours, then folders that this leaves empty. Returns the bytes. Raises `OSError`."""
    place, freed = folder or cache_folder(), 0
    for part in CACHE_PARTS:
        for file in list(_files(place, part)):
            freed += file.stat().st_size
            file.unlink()
    for emptied in (*(place / part.folder for part in CACHE_PARTS if part.folder), place):
        with suppress(OSError):  # not there, or something else is in it
            emptied.rmdir()
    return freed


def _files(folder: Path, part: CachePart) -> Iterator[Path]:
    """The part's files. A link is not followed: what it leads to was not put there by us."""
    place = folder / part.folder
    if part.folder and place.is_symlink():
        return
    with suppress(OSError):
        for file in sorted(place.iterdir()):
            ordinary = file.is_file() and not file.is_symlink()
            if ordinary and part.files.fullmatch(file.name) and _is_ours(file, part):
                yield file


def _is_ours(file: Path, part: CachePart) -> bool:
    """Whether a table is one of ours, by its keys."""
    if part.keys is None or file.suffix == ".part":
        return True
    if file.stat().st_size > LARGEST_TABLE:
        return False
    try:
        found = parse(read_bytes(file))
    except (OSError, RecordError):
        return False
    return isinstance(found, dict) and bool(found) and all(part.keys.fullmatch(key) for key in found)
