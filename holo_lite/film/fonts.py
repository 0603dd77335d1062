"""Text in any script that some font of this machine has.

No font has all characters. A text is cut into runs, each drawn with the first font that has its characters: the
sheets' own, then whatever is installed. What no font has is counted, so that a person can be told which to install.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]
SUFFIXES = (".ttf", ".otf", ".ttc")
IN_NO_FONT = "\U0010fffe"  # no character and never one: drawn as whatever a font draws for what it lacks
JOINED = ("Mn", "Mc", "Me", "Cf")  # kinds of characters that belong to the one before
EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH")
FAMILY = "Noto Sans"


@dataclass
class Typeface:
    """Fonts of one size, the best first, and the characters that none of them has."""

    main: Font
    missing: set[str] = field(default_factory=set)
    _fonts: list[Font] = field(default_factory=list, init=False)
    _of: dict[str, Font] = field(default_factory=dict, init=False)
    _left: Iterator[Path] = field(init=False)

    def __post_init__(self) -> None:
        self._fonts, self._left = [self.main], iter(installed_fonts())

    def length(self, text: str) -> float:
        """How wide a text is, in pixels."""
        return sum(font.getlength(run) for font, run in self._runs(text))

    def draw(self, pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: Colour) -> None:
        """Draw a line of text."""
        x, y = place
        for font, run in self._runs(text):
            pen.text((x, y), run, colour, font)
            x += font.getlength(run)

    def _runs(self, text: str) -> Iterator[tuple[Font, str]]:
        """Pieces of a text, each with the font that draws it."""
        run, of = "", self.main
        for character in text:
            joined = character == " " or unicodedata.category(character) in JOINED
            font = of if joined else self._font(character)
            if font is not of and run:
                yield of, run
                run = ""
            run, of = run + character, font
        if run:
            yield of, run

    def _font(self, character: str) -> Font:
        if character not in self._of:
            self._of[character] = self._found(character)
        return self._of[character]

    def _found(self, character: str) -> Font:
        for font in self._fonts:
            if has(font, character):
                return font
        for font in self._others():
            if has(font, character):
                return font
        self.missing.add(character)
        return self.main

    def _others(self) -> Iterator[Font]:
        """Fonts that were not opened before; damaged ones are passed over."""
        if not isinstance(self.main, ImageFont.FreeTypeFont):
            return  # Pillow knows no others
        for path in self._left:
            try:
                font = ImageFont.truetype(str(path), self.main.size)
            except (OSError, ValueError):
                continue
            self._fonts.append(font)
            yield font


def has(font: Font, character: str) -> bool:
    """Whether a font has a character: it draws something else for it than for what it lacks."""
    try:
        drawn: Any = font.getmask(character)
        lacking: Any = font.getmask(IN_NO_FONT)
    except (OSError, UnicodeError, ValueError):
        return False
    return (drawn.size, bytes(drawn)) != (lacking.size, bytes(lacking))


@cache
def installed_fonts() -> tuple[Path, ...]:
    """Files of fonts on this machine, plain ones of the widest family first."""
    found = [
        Path(folder) / name
        for root in _folders()
        for folder, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(SUFFIXES)
    ]
    return tuple(sorted(found, key=lambda path: ("Noto" not in path.name, "Regular" not in path.name, path.name)))


def _folders() -> Iterator[Path]:
    """Where this system keeps fonts."""
    home = Path.home()
    if sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", "C:\\Windows")) / "Fonts"
        yield Path(os.environ.get("LOCALAPPDATA", str(home))) / "Microsoft" / "Windows" / "Fonts"
    elif sys.platform == "darwin":
        yield from (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library" / "Fonts")
    else:
        shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        yield from (Path(each) / "fonts" for each in (*shared.split(":"), str(home / ".local" / "share")))
        yield home / ".fonts"


def wanted_fonts(missing: Iterable[str]) -> list[str]:
    """Names of fonts that have characters which none here has, in order."""
    return sorted({_wanted(character) for character in missing})


def _wanted(character: str) -> str:
    script = unicodedata.name(character, "").split(" ")[0].split("-")[0]
    if script in EAST_ASIAN:
        return f"{FAMILY} CJK"
    if unicodedata.category(character).startswith("S") or not script:
        return "Noto Emoji"
    return f"{FAMILY} {script.title()}"
