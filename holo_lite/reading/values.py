"""Values that a program gives to the library, each read by the type that it must have.

Who calls from Python may have no type checker. Text in the place of a number would end deep inside as a `TypeError`
that says nothing of the option; numbers of NumPy would end in a record that cannot be written.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from holo_lite.errors import HoloError, SettingsError

LONGEST = 60  # characters of a value in a message
Kind = type[HoloError]


def whole(name: str, value: object, kind: Kind = SettingsError) -> int:
    """A whole number, such as an int or one of NumPy's. Raises an error of `kind`."""
    try:
        return operator.index(_no_switch(value))
    except TypeError:
        raise wrong(name, value, "a whole number", kind) from None


def real(name: str, value: object, kind: Kind = SettingsError) -> float:
    """A number. Raises an error of `kind`."""
    number = _no_switch(value)
    if not isinstance(number, numbers.Real):
        raise wrong(name, value, "a number", kind)
    try:
        return float(number)
    except OverflowError:
        return math.inf if abs(number) == number else -math.inf


def text(name: str, value: object, kind: Kind = SettingsError) -> str:
    """A text. Raises an error of `kind`."""
    if not isinstance(value, str):
        raise wrong(name, value, "a text", kind)
    return value


def path(name: str, value: object, kind: Kind = SettingsError) -> Path:
    """A path, as a text or a path. Raises an error of `kind`."""
    if not isinstance(value, str | Path):
        raise wrong(name, value, "a path", kind)
    return Path(value)


def several(name: str, value: object, kind: Kind = SettingsError) -> tuple[Any, ...]:
    """Frames, of which each is still to be read. Raises an error of `kind`."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise wrong(name, value, "whole numbers such as (49, 97)", kind)
    return tuple(value)


def wholes(name: str, value: object, kind: Kind = SettingsError) -> tuple[int, ...]:
    """Whole numbers. Raises an error of `kind`."""
    return tuple(whole(name, each, kind) for each in several(name, value, kind))


def pair(name: str, value: object, kind: Kind = SettingsError) -> tuple[float, float]:
    """Two numbers. Raises an error of `kind`."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise wrong(name, value, "two numbers such as (0.1, 0.05)", kind)
    return real(name, value[0], kind), real(name, value[1], kind)


def one_or_two(name: str, value: object, kind: Kind = SettingsError) -> float | tuple[float, float]:
    """A number, or two. Raises an error of `kind`."""
    return pair(name, value, kind) if isinstance(value, tuple | list) else real(name, value, kind)


def wrong(name: str, value: object, wanted: str, kind: Kind = SettingsError) -> HoloError:
    """The error that says what to give instead of a value."""
    return kind(f"{name}: give {wanted}, not {shown(value)}")


def shown(value: object) -> str:
    """A value in a message, on one line: itself if it is short and plain, else its type."""
    plain = value is None or isinstance(value, str | int | float | os.PathLike)
    spelt = ascii(value) if plain else ""
    return spelt if spelt and len(spelt) <= LONGEST else f"an object of type {type(value).__name__}"


def _no_switch(value: Any) -> Any:
    """The value, but nothing for True and False, which Python counts among the numbers."""
    return None if isinstance(value, bool) else value
