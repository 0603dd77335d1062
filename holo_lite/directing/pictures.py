"""Pictures of anybody's: opened within bounds, turned as they say, and in RGB."""

from __future__ import annotations

import hashlib
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from holo_lite.errors import OutputError, StoryboardError
from holo_lite.reading.files import open_ordinary

MOST_PIXELS = 64_000_000  # of a picture; a bomb is a small file of many. Pillow warns from 89 million on
LONGEST_PIXELS = 20_000  # a side
BACKGROUND = (255, 255, 255)  # behind what is transparent
SIXTEEN_BITS = {"I", "I;16", "I;16B", "I;16L", "I;16N"}


def read_picture(path: Path) -> Image.Image:
    """The pixels of a picture in RGB, on white where it is transparent. Raises `StoryboardError`."""
    with _opened(path) as picture:
        try:
            return _flat(ImageOps.exif_transpose(picture) or picture)
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise StoryboardError(f"{path}: is a damaged picture ({error})") from error


def picture_hash(path: Path) -> str:
    """A hash of a picture's file."""
    with open_ordinary(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _opened(path: Path) -> Image.Image:
    try:
        picture = Image.open(open_ordinary(path))
    except (Image.DecompressionBombError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        large = isinstance(error, Image.DecompressionBombError)
        why = "is too large a picture" if large else "is not a picture that can be read"
        raise StoryboardError(f"{path}: {why}; give a PNG or JPEG of at most {MOST_PIXELS:,} pixels") from error
    except (OSError, OutputError) as error:
        raise StoryboardError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if picture.width * picture.height > MOST_PIXELS or max(picture.size) > LONGEST_PIXELS:
        raise StoryboardError(
            f"{path}: {picture.width}×{picture.height} is too large a picture; "
            f"give one of at most {MOST_PIXELS:,} pixels"
        )
    return picture


def _flat(picture: Image.Image) -> Image.Image:
    """Any mode as RGB: 16 bits by their upper eight, and what is transparent on white."""
    if picture.mode in SIXTEEN_BITS:
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it as PNG or JPEG")
    if "A" in picture.getbands() or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        below = Image.new("RGBA", layer.size, (*BACKGROUND, 255))
        return Image.alpha_composite(below, layer).convert("RGB")
    return picture.convert("RGB")
