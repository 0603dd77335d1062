"""Tables of the cache folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from holo_lite.errors import OutputError, RecordError
from holo_lite.inspection.lines import do, fact
from holo_lite.inspection.table_kinds import map_of
from holo_lite.reading.files import read_bytes
from holo_lite.reading.trees import check, parse
from holo_lite.system.caches import CACHE_PARTS, COLOURS

SHOWN = 20  # entries


def cache_table(path: Path) -> Iterator[str]:
    """What a machine was found to do, or to need. Raises `OutputError`."""
    try:
        found = parse(read_bytes(path))
        check(found)
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from error
    except RecordError as error:
        raise OutputError(f"{path}: is damaged ({error}); remove it, and it is made again") from error
    keys = frozenset(found) if isinstance(found, dict) else frozenset()
    part = next((part for part in CACHE_PARTS if keys and map_of(part.name, keys)), None)
    if part is None:
        raise OutputError(f"{path}: is no table of holo-lite's cache; remove it, and it is made again")
    yield f"{part.name} cache: {part.what}"
    if part != COLOURS:
        yield fact("entries", str(len(found)))
        yield from (f"    {key[:100]}: {_entry(value)}" for key, value in list(found.items())[:SHOWN])
    yield "  It is made again when it is missing."
    yield do("see all caches, and how large they are", "cache")


def _entry(value: object) -> str:
    """An entry on a line: numbers as they are, tables by their first keys."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_entry(inner)}" for key, inner in value.items())[:160]
    if isinstance(value, list):
        return " ".join(map(_entry, value))[:80]
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:80]
