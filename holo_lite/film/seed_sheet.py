"""Drafts side by side: a block for every seed, in it one frame of each shot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from holo_lite.errors import OutputError
from holo_lite.film.contact_sheet import (
    BACKGROUND,
    BRIGHT,
    CAPTION_SIZE,
    DIM,
    EMPTY,
    GAP,
    HEADER_SIZE,
    MARGIN,
    load_font,
    save_picture,
    thumbnail,
)

BOX = (220, 250)  # largest thumbnail
ACROSS = 6  # shots in a row; more go below
LABEL_WIDTH, HEADER_HEIGHT, BLOCK_GAP = 130, 24, 20


class SeedSheet:
    """Collects the middle frame of every shot while drafts pass by, and draws the sheet.

    `shots` are (first frame, one past the last) in video frames counted from 0, the same for all drafts, by the
    numbers of shots, from 1; only these are drawn.
    """

    def __init__(self, seeds: Sequence[int], shots: Mapping[int, tuple[int, int]]) -> None:
        self._seeds = tuple(seeds)
        self._shots = {(first + end) // 2: number for number, (first, end) in shots.items()}
        self._thumbnails: dict[tuple[int, int], Image.Image] = {}

    def add(self, seed: int, index: int, frame: torch.Tensor) -> None:
        """Offer frame `index` of a seed's draft: (height, width, 3) uint8 RGB on the CPU."""
        if index in self._shots:
            self._thumbnails[seed, self._shots[index]] = thumbnail(frame, BOX)

    @property
    def begun(self) -> bool:
        """Whether there is anything to see."""
        return bool(self._thumbnails)

    def draw(self) -> Image.Image:
        """Draw the sheet. Frames that never came, of drafts cut short, stay empty."""
        thumb = next(iter(self._thumbnails.values())).size if self._thumbnails else BOX
        across = min(len(self._shots), ACROSS)
        rows = -(-len(self._shots) // ACROSS)
        row = HEADER_HEIGHT + thumb[1] + GAP
        block = rows * row + BLOCK_GAP
        width = 2 * MARGIN + LABEL_WIDTH + across * (thumb[0] + GAP) - GAP
        sheet = Image.new("RGB", (width, 2 * MARGIN + len(self._seeds) * block - BLOCK_GAP - GAP), BACKGROUND)
        pen = ImageDraw.Draw(sheet)
        for count, seed in enumerate(self._seeds):
            top = MARGIN + count * block
            pen.text((MARGIN, top + HEADER_HEIGHT), f"seed {seed}", BRIGHT, load_font(CAPTION_SIZE))
            for place, number in enumerate(self._shots.values()):
                x = MARGIN + LABEL_WIDTH + place % ACROSS * (thumb[0] + GAP)
                y = top + place // ACROSS * row
                pen.text((x, y), f"shot {number}", DIM, load_font(HEADER_SIZE))
                picture = self._thumbnails.get((seed, number)) or Image.new("RGB", thumb, EMPTY)
                sheet.paste(picture, (x, y + HEADER_HEIGHT))
        return sheet

    def save(self, path: Path, mark: str = "") -> None:
        """Write the sheet as PNG, with a text on what it is of, whole or not at all. Raises `OutputError`."""
        save_picture(self.draw(), path, mark)


def check_place(path: Path) -> None:
    """Make sure, before any work, that a sheet can have this name. Raises `OutputError`."""
    if path.is_dir():
        raise OutputError(
            f"{path}: is a folder, but the sheet of all seeds would be written there; choose another --out"
        )
