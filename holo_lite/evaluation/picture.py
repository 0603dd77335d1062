"""The gate's picture: the expected drawing, next to the frames of the model and its baseline.

The first storyboards, then the worst. A row is a shot, four frames of it in each column; above it are its caption
and what was read in the model's pixels where that is something else. Only thumbnails are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from holo_lite.errors import OutputError
from holo_lite.evaluation.marks import mark_shots, mean_of
from holo_lite.evaluation.outcome import Outcome, StoryboardJudged
from holo_lite.evaluation.reading import Reading
from holo_lite.system.whole_files import draft
from holo_lite.tiny.drawing import describe, draw

FIRST, WORST = 3, 3
COLUMNS, THUMB_WIDTH = 4, 144
MARGIN, GAP, GROUP_GAP, LINE = 24, 4, 20, 22
TEXT_SIZE = 14
BACKGROUND, TEXT, WRONG, TITLE = (22, 22, 24), (196, 196, 194), (255, 140, 110), (240, 240, 238)

Pixels = NDArray[np.uint8]
Row = list[list[Image.Image]]  # thumbnails of a shot, a list a column


@dataclass(frozen=True)
class Strip:
    """One storyboard's part of the picture. lines: over each shot, its caption and what went wrong."""

    title: str
    lines: list[tuple[str, str]]
    rows: list[Row]
    mean: float


@dataclass
class Gallery:
    """Collects storyboards as they are marked and keeps the first and the worst."""

    columns: tuple[str, ...]
    first: list[Strip] = field(default_factory=list)
    worst: list[Strip] = field(default_factory=list)

    def add(self, judged: StoryboardJudged) -> None:
        """Offer a marked storyboard."""
        if len(self.first) < FIRST:
            self.first.append(_strip(judged))
        elif len(self.worst) < WORST or mean_of(judged.outcome.verdict.marks) < self.worst[-1].mean:
            self.worst = sorted([*self.worst, _strip(judged)], key=lambda strip: strip.mean)[:WORST]

    def draw(self) -> Image.Image:
        """Draw what was collected, at least one storyboard."""
        strips = [*self.first, *self.worst]
        thumb = strips[0].rows[0][0][0]
        group = COLUMNS * (thumb.width + GAP) - GAP
        width = 2 * MARGIN + len(self.columns) * (group + GROUP_GAP) - GROUP_GAP
        height = 2 * MARGIN + LINE + sum(_height(strip, thumb.height) for strip in strips)
        picture = Image.new("RGB", (width, height), BACKGROUND)
        pen, font, y = ImageDraw.Draw(picture), ImageFont.load_default(TEXT_SIZE), MARGIN
        for number, name in enumerate(self.columns):
            pen.text((MARGIN + number * (group + GROUP_GAP), y), name, TITLE, font)
        y += LINE
        for strip in strips:
            _draw_strip(picture, pen, font, strip, y)
            y += _height(strip, thumb.height)
        return picture

    def save(self, path: Path) -> None:
        """Write the picture as PNG, whole or not at all. Raises `OutputError`."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft(path) as partial:
                self.draw().save(partial, format="PNG")
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def _strip(judged: StoryboardJudged) -> Strip:
    outcome, films = judged.outcome, [film.frames.numpy() for film in (judged.film, judged.baseline_film) if film]
    _, height, width, _ = films[0].shape
    columns = [draw(outcome.scene, height, width), *films]
    rows = [[_thumbnails(film, span) for film in columns] for span in outcome.scene.spans]
    return Strip(_title(outcome), _lines(outcome), rows, mean_of(outcome.verdict.marks))


def _title(outcome: Outcome) -> str:
    asked, found = (", ".join(map(str, cuts)) or "none" for cuts in (outcome.scene.cuts, outcome.verdict.cuts))
    share = mean_of(outcome.verdict.marks)
    return f"storyboard {outcome.index}: {share:.0%}; cuts asked for at {asked}, found at {found}"


def _lines(outcome: Outcome) -> list[tuple[str, str]]:
    captions, readings = outcome.settings.shown_captions, outcome.verdict.readings
    right = [shot.adheres for shot in mark_shots(outcome.scene, readings)]
    drawn = [" and ".join(describe(outcome.scene.characters[i]) for i in act.cast) for act in outcome.scene.acts]
    return [
        (f"{caption} ({who})", "" if fine else f"reads: {_said(reading)}")
        for caption, who, fine, reading in zip(captions, drawn, right, readings, strict=True)
    ]


def _said(reading: Reading) -> str:
    who = " and ".join(map(describe, reading.characters)) or "nobody"
    return f"{reading.framing} of {who}, {reading.motion}"


def _thumbnails(film: Pixels, span: Sequence[int]) -> list[Image.Image]:
    picked = np.linspace(span[0], span[-1], COLUMNS).round().astype(int)
    _, height, width, _ = film.shape
    size = (THUMB_WIDTH, round(height * THUMB_WIDTH / width))
    return [Image.fromarray(film[index]).resize(size, Image.Resampling.LANCZOS) for index in picked]


def _height(strip: Strip, thumb: int) -> int:
    return 2 * LINE + len(strip.rows) * (thumb + LINE + GAP)


def _draw_strip(
    picture: Image.Image,
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    strip: Strip,
    y: int,
) -> None:
    pen.text((MARGIN, y + LINE // 2), strip.title, TITLE, font)
    y += 2 * LINE - LINE // 2
    for (caption, wrong), row in zip(strip.lines, strip.rows, strict=True):
        pen.text((MARGIN, y), caption, TEXT, font)
        pen.text((MARGIN + font.getlength(f"{caption}   "), y), wrong, WRONG, font)
        x = MARGIN
        for thumbnails in row:
            for thumbnail in thumbnails:
                picture.paste(thumbnail, (round(x), y + LINE))
                x += thumbnail.width + GAP
            x += GROUP_GAP - GAP
        y += row[0][0].height + LINE + GAP
