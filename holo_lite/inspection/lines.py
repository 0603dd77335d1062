"""The lines of a description: facts in a column, and what to do, as a command to type."""

from __future__ import annotations

from pathlib import Path

from holo_lite.config import Defaults
from holo_lite.views.terminal import typed

WIDTH = 10


def fact(name: str, text: str) -> str:
    """A fact under its name."""
    return f"  {name:<{WIDTH}}  {text}"


def do(what: str, *words: str | Path) -> str:
    """What to do, and the words after `holo-lite` that do it."""
    return f"  → {what}: {typed(['holo-lite', *map(str, words)])}"


def length(frames: int, fps: float | None = None) -> str:
    """A number of frames, with the seconds they take at a rate or at the model's own."""
    rate = fps or Defaults().fps
    return f"{frames} frames, {frames / rate:.1f} s at {rate:g} fps"


def some(count: int, one: str) -> str:
    """A number of things: ``1 file``, ``2 files``."""
    return f"{count} {one}{'' if count == 1 else 's'}"
