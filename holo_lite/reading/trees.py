"""JSON that anybody may have written: parsed within bounds, and what is wrong is named by its place.

Python's own reader takes NaN, numbers of any length, halves of characters, and nests as deep as the stack allows.
Here each of these is one `RecordError` with the path of the fault, as in ``$.shards[0].nbytes``.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from holo_lite.errors import RecordError

DEEPEST = 64  # of lists and tables in each other; ours go six deep
LARGEST_WHOLE, SMALLEST_WHOLE = 2**64 - 1, -(2**63)
LONGEST_NUMBER = 40  # digits of a whole number: more than 64 bits need
LONGEST_MESSAGE = 160
PLAIN_KEY = re.compile(r"\w+", re.ASCII)

Pairs = Callable[[list[tuple[str, Any]]], Any]
JsonPath = tuple[str | int, ...]  # keys of tables and places in lists, from the root


def parse(text: str | bytes, pairs: Pairs | None = None) -> Any:
    """Read JSON as it is; `pairs` makes the tables. Raises `RecordError` for what is none."""
    try:
        return _loads(text, pairs)
    except RecordError:
        raise
    except ValueError as error:
        raise fault(f"not JSON ({error})", ()) from error


def parse_json(text: str, pairs: Pairs | None = None) -> Any:
    """Read JSON and `check` it; `pairs` makes the tables. Raises `ValueError`, which `RecordError` is, too."""
    found = _loads(text, pairs)
    check(found)
    return found


def parse_toml(text: str) -> dict[str, Any]:
    """Read TOML and `check` it, but for infinity and NaN, which TOML has words for. Raises `ValueError`."""
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise fault("nested too deeply", ()) from None
    check(found, finite=False)
    return found


def check(found: object, at: JsonPath = (), *, finite: bool = True, surrogates: bool = False) -> None:
    """Raise `RecordError` for what no record holds in a tree that stands at a path.

    That is a list or table in too many others, a whole number beyond 64 bits, one that is not `finite`, and half of
    a character, unless `surrogates` may be there: by them the name of a file is kept that is no text.
    """
    if _is_sound(found, DEEPEST - len(at), partial(_is_fine, finite=finite, surrogates=surrogates)):
        return
    for path, value in _walk(found, at):
        if isinstance(value, int) and not SMALLEST_WHOLE <= value <= LARGEST_WHOLE:
            raise fault("a number out of range", path)
        if isinstance(value, float) and finite and not math.isfinite(value):
            raise fault("a number that is not finite", path)
        if isinstance(value, str) and not surrogates and not _is_text(value):
            raise fault("half of a character", path)


def fault(why: str, path: JsonPath) -> RecordError:
    """The error for what is wrong at a place, on one line that any terminal can show."""
    line = f"{why} at {path_text(path)}".replace("`", "'")
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    return RecordError(shown if len(shown) <= LONGEST_MESSAGE else f"{shown[:LONGEST_MESSAGE]}…")


def path_text(path: JsonPath) -> str:
    """Spell a path: ``$.shards[0].nbytes``, with quotes around keys that are no names."""
    return "$" + "".join(_step(key) for key in path)


def _step(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if PLAIN_KEY.fullmatch(key) else f"[{key!r}]"


def _loads(text: str | bytes, pairs: Pairs | None) -> Any:
    try:
        return json.loads(text, object_pairs_hook=pairs, parse_int=_whole)
    except RecursionError:
        raise fault("nested too deeply", ()) from None


def _whole(digits: str) -> int:
    """A whole number; of one that is beyond all use no more than that it is out of range."""
    return int(digits) if len(digits) <= LONGEST_NUMBER else LARGEST_WHOLE + 1


def _is_sound(found: object, levels: int, is_fine: Callable[[object], bool]) -> bool:
    """Whether a tree of no more than so many levels below its root holds only what is fine.

    It keeps no paths, and takes a third of the time of a walk that does: every file of weights has such a tree, of
    a few thousand values, and a run reads it a dozen times.
    """
    level = [found]
    for _ in range(levels + 1):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
                fine = all(map(is_fine, value))
            elif isinstance(value, list | tuple):
                below.extend(value)
                continue
            else:
                fine = is_fine(value)
            if not fine:
                return False
        level = below
    return not level


def _is_fine(value: object, finite: bool, surrogates: bool) -> bool:
    """Whether a record may hold a value that is no table or list."""
    if isinstance(value, int):
        return SMALLEST_WHOLE <= value <= LARGEST_WHOLE
    if isinstance(value, float):
        return not finite or math.isfinite(value)
    return surrogates or not isinstance(value, str) or value.isascii() or _is_text(value)


def _walk(found: object, at: JsonPath) -> Iterator[tuple[JsonPath, object]]:
    """Everything in a tree with its path, a table's keys, too. Raises `RecordError` for one that is too deep."""
    left: list[tuple[JsonPath, object]] = [(at, found)]
    while left:
        path, value = left.pop()
        if len(path) > DEEPEST:
            raise fault("nested too deeply", path[:3])
        yield path, value
        if isinstance(value, dict):
            yield from ((path, key) for key in value)
        left.extend(((*path, key), inner) for key, inner in inside(value))


def inside(value: object) -> Iterable[tuple[str | int, Any]]:
    """What a table or a list holds, by key or place; nothing in anything else."""
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list | tuple) else ()


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
