"""What is private in a report: where a person's home is, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SHORT, SOMEBODY = "~", "USER"
LONG_ENOUGH = 2  # characters of a name that is looked for


def without_names(found: Any, home: Path, users: Iterable[str]) -> Any:
    """The same tables and lists, with the home folder as ``~`` and folders named for a user as ``USER``."""
    patterns = [*_home(home), *(_folder(user) for user in users if len(user) >= LONG_ENOUGH)]
    return _each(found, patterns)


def _each(found: Any, patterns: list[tuple[re.Pattern[str], str]]) -> Any:
    if isinstance(found, dict):
        return {_each(key, patterns): _each(value, patterns) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_each(value, patterns) for value in found]
    if isinstance(found, str | Path):
        text = str(found)
        for pattern, instead in patterns:
            text = pattern.sub(instead, text)
        return text
    return found


def _home(home: Path) -> Iterable[tuple[re.Pattern[str], str]]:
    """The home folder where a path begins with it. Where all is at home, as at the root, nothing is."""
    for place in dict.fromkeys((str(home), home.as_posix())):
        if len(home.parts) > 1:
            yield re.compile(rf"(?<![\w./\\-]){re.escape(place)}(?![\w.-])"), SHORT


def _folder(user: str) -> tuple[re.Pattern[str], str]:
    return re.compile(rf"(?<=[/\\]){re.escape(user)}(?![\w.-])"), SOMEBODY
