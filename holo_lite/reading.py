"""Files that anybody may have written: read only if they are ordinary, and no larger than such a file can be.

A pipe in the place of a file would be waited for, a device read without end. What is read as JSON or TOML holds
numbers of 64 bits, finite ones, whole characters, and no nesting that a parser cannot follow: anything else is one
`ValueError` that says what it is.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

LARGEST_TEXT = 64 * 2**20  # bytes of a file that people write, or programs for them
LARGEST_WHOLE, SMALLEST_WHOLE = 2**64 - 1, -(2**63)
MOST_DIGITS = 20
NOT_ORDINARY = "is a pipe or a device, not a file"
Pairs = Callable[[list[tuple[str, Any]]], Any]


def open_ordinary(path: Path) -> BinaryIO:
    """Open a file to read, unbuffered. Raises `OSError` for a pipe, a device or a folder, without waiting."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, NOT_ORDINARY, str(path))
        return os.fdopen(handle, "rb", buffering=0)
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path, most: int = LARGEST_TEXT) -> bytes:
    """All of an ordinary file of at most so many bytes. Raises `OSError`."""
    with open_ordinary(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, "is too large for a file of its kind", str(path))
        return file.read(most)


def read_text(path: Path) -> str:
    """All of an ordinary UTF-8 file. Raises `OSError`, and `ValueError` for what is no UTF-8."""
    return read_bytes(path).decode("utf-8")


def parse_json(text: str, pairs: Pairs | None = None) -> Any:
    """JSON whose numbers a computer can hold; `pairs` makes the objects. Raises `ValueError`."""
    try:
        found = json.loads(
            text,
            object_pairs_hook=pairs,
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\u" in text:
        _check_characters(json.dumps(found, ensure_ascii=False))
    return found


def parse_toml(text: str) -> dict[str, Any]:
    """TOML whose numbers a computer can hold. Raises `ValueError`."""
    try:
        found = tomllib.loads(text)
        _check_numbers(found)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found


def _whole(digits: str) -> int:
    number = int(digits) if len(digits) <= MOST_DIGITS else LARGEST_WHOLE + 1
    return _in_range(number)


def _in_range(number: int) -> int:
    if not SMALLEST_WHOLE <= number <= LARGEST_WHOLE:
        raise ValueError("a whole number in it is beyond 64 bits")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:  # of infinities and NaN
        raise ValueError(f"{text[:MOST_DIGITS]} in it is no finite number")
    return number


def _check_numbers(value: object) -> None:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            _check_numbers(each)
    elif isinstance(value, int):
        _in_range(value)


def _check_characters(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"it holds {text[error.start]!a}, half of a character") from None
