"""What may go to a terminal, and commands as a person can paste them.

Captions, names and errors come from files that anybody may have written. A terminal takes some characters for
orders: to move, to clear, to rename its window, to write from right to left. None of these reaches it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable

from rich.cells import cell_len

# Control characters but the tab, line ends of other kinds, halves of characters, and what turns the direction.
ORDERS = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff]"
)
BARE = re.compile(r"[\w@+=:,./\\-]+", re.ASCII)  # words that mean themselves in every shell of Windows
ALIVE = re.compile('[%!^$`"\u201c\u201d\u201e]')  # what a shell of Windows may act on within quotation marks


def shown(text: str) -> str:
    """A text on one line, with whatever a terminal would obey written as an escape."""
    return ORDERS.sub(lambda found: _escape(found[0]), text)


def wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    """A text in lines of at most `width` columns, broken between words; a word that is wider keeps its own line."""
    lines, room = [""], width
    for word in re.findall(r"\s*\S+", text):
        if lines[-1].strip() and cell_len(lines[-1] + word) > room:
            lines.append(indent + word.lstrip())
        else:
            lines[-1] += word
    return lines


def typed(words: Iterable[str], *, windows: bool | None = None) -> str:
    """A command on one line, each word quoted for this system's shell so that it reaches the program as it is."""
    quote = _quoted_on_windows if _is_windows(windows) else shlex.quote
    return shown(" ".join(map(quote, words)))


def opener(path: object, system: str = sys.platform) -> str:
    """The command that opens a file with the program that this system has for it."""
    windows = system == "win32"
    words = {"darwin": ["open"], "win32": ["start"]}.get(system, ["xdg-open"])
    if windows and not BARE.fullmatch(str(path)):
        words = ["explorer"]  # `start` takes words in quotation marks for a title
    return typed([*words, str(path)], windows=windows)


def is_inert(word: str, *, windows: bool | None = None) -> bool:
    """Whether a shell takes a word in quotation marks as it is: those of Windows act on some characters in them."""
    return not (_is_windows(windows) and ALIVE.search(word)) and not ORDERS.search(word)


def _is_windows(said: bool | None) -> bool:
    return os.name == "nt" if said is None else said


def _escape(character: str) -> str:
    code = ord(character)
    return {"\n": "\\n", "\r": "\\r"}.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def _quoted_on_windows(word: str) -> str:
    if BARE.fullmatch(word):
        return word
    quoted = subprocess.list2cmdline([word])
    return quoted if quoted.startswith('"') else f'"{quoted}"'
