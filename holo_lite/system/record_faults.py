"""Where in a table a fault lies, down to the key.

msgspec names the fields and places on the way to a fault, but writes ``[...]`` for the key of a mapping. Which one
it is, is found by trying halves of the mapping.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from holo_lite.system.json_tree import JsonPath

MESSAGE = re.compile(r"(?P<why>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?", re.DOTALL)
STEP = re.compile(r"\.(\w+)|\[(\d+)\]|(\[\.\.\.\])")


def located(found: object, kind: Any, message: str) -> tuple[str, JsonPath]:
    """What is wrong with a table that shall become a `kind`, and where, by msgspec's message about it."""
    match = MESSAGE.fullmatch(message)
    assert match, "whatever the message, it is what is wrong"
    why = match["why"][:1].lower() + match["why"][1:]
    path: JsonPath = ()
    for name, place, _ in STEP.findall(match["path"] or ""):
        if name or place:
            path = (*path, name or int(place))
        else:
            key = _at_fault(found, kind, path, message)
            found, path = _only(found, path, [key]), (*path, key)
    return why, path


def _at_fault(found: object, kind: Any, path: JsonPath, message: str) -> str:
    """The key of the mapping at a path whose value leads to a message."""
    keys = list(_at(found, path))
    while len(keys) > 1:
        half = keys[: len(keys) // 2]
        keys = half if _message(_only(found, path, half), kind) == message else keys[len(half) :]
    return keys[0]


def _message(found: object, kind: Any) -> str:
    try:
        msgspec.convert(found, kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        return str(error)
    return ""


def _at(found: Any, path: JsonPath) -> dict[str, object]:
    for key in path:
        found = found[key]
    table: dict[str, object] = found
    return table


def _only(found: Any, path: JsonPath, keys: Iterable[str]) -> object:
    """The same tree, with no other keys than these in the mapping at a path."""
    if not path:
        return {key: found[key] for key in keys}
    first, *rest = path
    inner = _only(found[first], tuple(rest), keys)
    copy: Any = found.copy()
    copy[first] = inner
    return copy
