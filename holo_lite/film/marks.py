"""A text inside a PNG that says what it is of: for a contact sheet, the settings of its run as JSON."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from holo_lite.errors import OutputError
from holo_lite.reading.files import open_ordinary

KEY = "holo-lite"


def marked(text: str) -> PngImagePlugin.PngInfo:
    """What Pillow writes such a text with."""
    found = PngImagePlugin.PngInfo()
    found.add_itxt(KEY, text)
    return found


def read_mark(path: Path) -> str | None:
    """The text of a picture; None if it has none, or is no PNG. Raises `OutputError` if it cannot be read."""
    try:
        with open_ordinary(path) as file, Image.open(file, formats=["PNG"]) as picture:
            found = picture.info.get(KEY)
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return str(found) if found is not None else None
