"""Texts inside a PNG that say what it is of: for a contact sheet, its run's settings and where its shots are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from holo_lite.errors import OutputError
from holo_lite.reading.files import open_ordinary

KEY = "holo-lite"
SHOTS = "holo-lite shots"


@dataclass(frozen=True)
class ShotMark:
    """A shot on a contact sheet: its caption, and the place of one of its frames (left, top, right, bottom)."""

    caption: str
    box: tuple[int, int, int, int]


def marked(text: str, shots: Sequence[ShotMark] = ()) -> PngImagePlugin.PngInfo:
    """What Pillow writes such texts with."""
    found = PngImagePlugin.PngInfo()
    found.add_itxt(KEY, text)
    if shots:
        found.add_itxt(SHOTS, json.dumps([[each.caption, each.box] for each in shots]))
    return found


def read_mark(path: Path) -> str | None:
    """The text of a picture; None if it has none, or is no PNG. Raises `OutputError` if it cannot be read."""
    return _read(path, KEY)


def read_shots(path: Path) -> tuple[ShotMark, ...]:
    """The shots of a contact sheet, in order; none where it does not say. Raises what `read_mark` raises."""
    try:
        found = json.loads(_read(path, SHOTS) or "[]")
        return tuple(ShotMark(str(caption), (int(a), int(b), int(c), int(d))) for caption, (a, b, c, d) in found)
    except (TypeError, ValueError, RecursionError):
        return ()


def _read(path: Path, key: str) -> str | None:
    try:
        with open_ordinary(path) as file, Image.open(file, formats=["PNG"]) as picture:
            found = picture.info.get(key)
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return str(found) if found is not None else None
