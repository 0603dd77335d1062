"""A film at a glance: one row of frames for every shot, its caption below.

What to look for in a multi-shot clip is whether people and places stay the same across cuts and whether each
shot shows what its caption says. Both are seen on one picture. The sheet is fed while the film is decoded and
keeps only thumbnails of the few frames it shows.
"""

from __future__ import annotations

import bisect
import contextlib
import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

from holo_lite.errors import OutputError
from holo_lite.film.fonts import Font, Typeface, wanted_fonts
from holo_lite.film.marks import ShotMark, marked
from holo_lite.system.whole_files import draft

COLUMNS = 4
BOX = (300, 340)  # largest thumbnail: landscape films fill the width, portrait films the height
MARGIN, GAP, ROW_GAP = 40, 10, 44
HEADER_SIZE, CAPTION_SIZE = 15, 17
HEADER_HEIGHT, CAPTION_LINE = 30, 25
CAPTION_LINES = 3
BACKGROUND, EMPTY = (22, 22, 24), (38, 38, 41)
BRIGHT, TEXT, DIM = (240, 240, 238), (196, 196, 194), (128, 128, 130)
COMPRESSION = zlib.Z_RLE  # the demo's sheet: 46 ms and 446 kB; by zlib's usual way, at level 4, 69 ms and 478 kB

# Widest coverage first, so that captions in Chinese or Russian are not boxes; Pillow looks in system folders.
FONTS = ("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "msyh.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf")

logger = logging.getLogger(__name__)
Pixels = torch.Tensor | npt.NDArray[np.uint8]


class ContactSheet:
    """Collects thumbnails while frames pass by, and draws the sheet.

    `shots` are (first frame, one past the last) in video frames counted from 0, `captions` one text a shot,
    `fps` frames per second.
    """

    def __init__(self, shots: Sequence[tuple[int, int]], captions: Sequence[str], *, fps: float) -> None:
        assert shots, "a film has a shot"
        assert len(shots) == len(captions), "every shot has a caption, be it empty"
        self._shots = tuple(shots)
        self._captions = tuple(captions)
        self._fps = fps
        self._picked = [_spread(first, end) for first, end in shots]
        self._wanted = {index for row in self._picked for index in row}
        self._thumbnails: dict[int, Image.Image] = {}

    def add(self, index: int, frame: Pixels) -> None:
        """Offer frame `index`: (height, width, 3), uint8 RGB, a NumPy array or a CPU tensor."""
        if index in self._wanted:
            self._thumbnails[index] = thumbnail(frame)

    def draw(self) -> Image.Image:
        """Draw the sheet. Frames that never came, of a film cut short, stay empty."""
        return self._drawn(self._layout())

    def _layout(self) -> _Layout:
        thumb = next(iter(self._thumbnails.values())).size if self._thumbnails else BOX
        width = COLUMNS * thumb[0] + (COLUMNS - 1) * GAP
        typeface = Typeface(load_font(CAPTION_SIZE))
        captions = [_wrap(text, typeface.length, width) for text in self._captions]
        heights = [HEADER_HEIGHT + thumb[1] + _caption_height(lines) + ROW_GAP for lines in captions]
        tops = [MARGIN, *(MARGIN + end for end in accumulate(heights))]
        return _Layout(thumb, typeface, captions, tops, (width + 2 * MARGIN, tops[-1] - ROW_GAP + MARGIN))

    def _drawn(self, layout: _Layout) -> Image.Image:
        sheet, typeface, thumb = Image.new("RGB", layout.size, BACKGROUND), layout.typeface, layout.thumb
        pen = ImageDraw.Draw(sheet)
        for number, lines in enumerate(layout.captions):
            y = layout.tops[number]
            self._draw_header(pen, number, y)
            self._draw_frames(sheet, number, y + HEADER_HEIGHT, thumb)
            _draw_lines(pen, lines, typeface, y + HEADER_HEIGHT + thumb[1] + GAP)
        if typeface.missing:
            fonts = ", ".join(wanted_fonts(typeface.missing))
            logger.warning(
                "the contact sheet shows boxes in captions: no font here has them all; install %s", fonts
            )
        return sheet

    def save(self, path: Path, mark: str = "") -> None:
        """Write the sheet as PNG, with a text on what it is of, whole or not at all. Raises `OutputError`.

        A sheet with such a text also says where a frame of each shot is (`read_shots`).
        """
        layout = self._layout()
        save_picture(self._drawn(layout), path, mark, self._marks(layout))

    def _marks(self, layout: _Layout) -> list[ShotMark]:
        """Where each shot's frame nearest to its middle is."""
        found, (width, height) = [], layout.thumb
        for caption, row, top in zip(self._captions, self._picked, layout.tops, strict=False):
            left, top = MARGIN + len(row) // 2 * (width + GAP), top + HEADER_HEIGHT
            found.append(ShotMark(caption, (left, top, left + width, top + height)))
        return found

    def _draw_header(self, pen: ImageDraw.ImageDraw, number: int, y: int) -> None:
        first, end = self._shots[number]
        font, name = load_font(HEADER_SIZE), f"shot {number + 1}"
        place = f"  ·  frames {first}–{end - 1}  ·  {(end - first) / self._fps:.1f} s"
        pen.text((MARGIN, y), name, BRIGHT, font)
        pen.text((MARGIN + font.getlength(name), y), place, DIM, font)

    def _draw_frames(self, sheet: Image.Image, number: int, y: int, size: tuple[int, int]) -> None:
        for column, index in enumerate(self._picked[number]):
            picture = self._thumbnails.get(index) or Image.new("RGB", size, EMPTY)
            sheet.paste(picture, (MARGIN + column * (size[0] + GAP), y))


@dataclass(frozen=True)
class _Layout:
    """Where everything of a sheet is. tops: of each row, and where one more would begin."""

    thumb: tuple[int, int]
    typeface: Typeface
    captions: list[list[str]]
    tops: list[int]
    size: tuple[int, int]


def save_picture(picture: Image.Image, path: Path, mark: str = "", shots: Sequence[ShotMark] = ()) -> None:
    """Write a picture as PNG, with a text that says what it is of, whole or not at all. Raises `OutputError`."""
    try:
        with draft(path) as partial:
            info = marked(mark, shots) if mark else None
            picture.save(partial, format="PNG", compress_type=COMPRESSION, pnginfo=info)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def _spread(first: int, end: int) -> list[int]:
    """Up to four frames of a shot, evenly spaced, the first and the last among them."""
    count = min(COLUMNS, end - first)
    steps = max(count - 1, 1)
    return [first + round(i * (end - 1 - first) / steps) for i in range(count)]


def thumbnail(frame: Pixels, box: tuple[int, int] = BOX) -> Image.Image:
    """A frame (height, width, 3), uint8 RGB, as large as fits into a box of (width, height) pixels."""
    pixels = np.ascontiguousarray(frame.numpy() if isinstance(frame, torch.Tensor) else frame)
    height, width, _ = pixels.shape
    scale = min(box[0] / width, box[1] / height)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)


def load_font(size: int) -> Font:
    """The font of all sheets that covers most on this machine."""
    for name in FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def _wrap(text: str, measure: Callable[[str], float], width: float) -> list[str]:
    """Break a caption into lines, at spaces where there are any, and end it with … where it is too long."""
    text = " ".join(text.split())
    lines: list[str] = []
    while text and len(lines) < CAPTION_LINES:
        fits = _fitting(text, measure, width)
        space = text.rfind(" ", 0, fits + 1)
        cut = space if fits < len(text) and space > 0 else fits
        lines.append(text[:cut])
        text = text[cut:].lstrip()
    if text:
        lines[-1] = lines[-1][: _fitting(lines[-1], measure, width - measure("…"))].rstrip(" ,.;:") + "…"
    return lines


def _fitting(text: str, measure: Callable[[str], float], width: float) -> int:
    """How many characters fit into `width` pixels; at least one."""
    lengths = range(1, len(text) + 1)
    return max(1, bisect.bisect_right(lengths, width, key=lambda length: measure(text[:length])))


def _caption_height(lines: list[str]) -> int:
    return GAP + CAPTION_LINE * len(lines) if lines else 0


def _draw_lines(pen: ImageDraw.ImageDraw, lines: list[str], typeface: Typeface, y: int) -> None:
    for number, line in enumerate(lines):
        typeface.draw(pen, (MARGIN, y + number * CAPTION_LINE), line, TEXT)
