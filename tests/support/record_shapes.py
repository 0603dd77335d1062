"""The shapes of records by version, as `records/shapes.json` keeps them. Run it to add those of new versions.

A shape is every field of every dataclass in a record, with its type, and whether it may be missing.
"""

import dataclasses
import json
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from holo_lite.runs.record import RECORD
from holo_lite.runs.state_facts import STATE_FACTS
from holo_lite.settings import SETTINGS
from holo_lite.system.records import Origin
from holo_lite.weights.manifest import MANIFEST

FILE = Path(__file__).parents[1] / "records" / "shapes.json"
CODECS = (SETTINGS, RECORD, STATE_FACTS, MANIFEST)


def shape_of(codec):
    """The fields of a record, and of every table in it, by the way to the table. Classes may be renamed."""
    found, left = {}, [("$", codec.kind)]
    while left:
        way, kind = left.pop()
        hints = get_type_hints(kind, include_extras=True)
        fields = [field for field in dataclasses.fields(kind) if hints[field.name] is not Origin]
        found[way] = {field.name: _field(field, hints[field.name]) for field in fields}
        for field in fields:
            if field.name not in codec.parts or way != "$":  # a part has versions of its own
                left += [(f"{way}.{field.name}", inner) for inner in _dataclasses(hints[field.name])]
    return dict(sorted(found.items()))


def _field(field, hint):
    default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    return _spelled(hint) + (", may be missing" if default else "")


def _spelled(hint):
    if dataclasses.is_dataclass(hint):
        return "table"
    if get_origin(hint) is Annotated:
        kind, *bounds = get_args(hint)
        return f"{_spelled(kind)} {' '.join(map(_bounds, bounds))}"
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) in {Union, types.UnionType}:
        return " or ".join(map(_spelled, get_args(hint)))
    if get_args(hint):
        inner = ", ".join("..." if each is ... else _spelled(each) for each in get_args(hint))
        return f"{get_origin(hint).__name__}[{inner}]"
    return "anything" if hint is Any else "nothing" if hint is type(None) else hint.__name__


def _bounds(meta):
    names = ("ge", "gt", "le", "lt", "min_length", "max_length")
    return " ".join(f"{name} {value}" for name in names if (value := getattr(meta, name)) is not None)


def _dataclasses(hint):
    if dataclasses.is_dataclass(hint):
        return [hint]
    return [inner for each in get_args(hint) for inner in _dataclasses(each)]


def complaints(codec, shapes):
    """What speaks against a record's shape, given the shapes of all versions there have been."""
    name, current = codec.kind.__name__, codec.current
    known = {int(version): shape for version, shape in shapes.get(name, {}).items()}
    if known.get(current.version) != json.loads(json.dumps(shape_of(codec))):
        why = "changed" if current.version in known else f"of version {current.version} is not in {FILE.name}"
        yield f"{name}: its shape {why}; give it a new version and an upgrade, then run {Path(__file__).name}"
    if sorted(known) != [*range(1, current.version + 1)]:
        yield f"{name}: the shapes of versions {sorted(known)} are kept, not of all up to {current.version}"
    if sorted(codec.upgrades) != [*range(1, current.version)]:
        yield f"{name}: has upgrades of versions {sorted(codec.upgrades)}, not of all before {current.version}"
    if not 1 <= current.runs_from <= current.version:
        yield f"{name}: runs from version {current.runs_from}"


def main():
    """Add the shapes of new versions; those that are there stay as they are."""
    shapes = json.loads(FILE.read_text()) if FILE.is_file() else {}
    for codec in CODECS:
        versions = shapes.setdefault(codec.kind.__name__, {})
        versions.setdefault(str(codec.current.version), shape_of(codec))
    FILE.write_text(json.dumps(shapes, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
