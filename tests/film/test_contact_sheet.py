"""The sheet shows the right frames, fits every film, and holds nothing but thumbnails."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from holo_lite.errors import OutputError
from holo_lite.film import contact_sheet
from holo_lite.film.contact_sheet import BACKGROUND, BOX, COLUMNS, GAP, HEADER_HEIGHT, MARGIN, ContactSheet
from holo_lite.film.fonts import Typeface, has, installed_fonts

LONG = "A woman in a red coat walks along a rainy street at night, neon reflected in the puddles. " * 12


def sheet_of(shots, captions, *, height=64, width=112):
    """A film whose frame i is the flat colour (i, i, i)."""
    sheet = ContactSheet(shots, captions, fps=15)
    for index in range(shots[-1][1]):
        sheet.add(index, np.full((height, width, 3), index % 256, np.uint8))
    return sheet


def greys_of_row(picture, y, thumb_width):
    xs = [MARGIN + column * (thumb_width + GAP) + thumb_width // 2 for column in range(COLUMNS)]
    return [picture.getpixel((x, y)) for x in xs]


def test_a_row_shows_first_last_and_evenly_spaced_frames_of_its_shot():
    picture = sheet_of([(0, 49), (49, 97)], ["", ""]).draw()
    row = round(64 * BOX[0] / 112) + HEADER_HEIGHT + contact_sheet.ROW_GAP
    first = greys_of_row(picture, MARGIN + HEADER_HEIGHT + 20, BOX[0])
    second = greys_of_row(picture, MARGIN + HEADER_HEIGHT + 20 + row, BOX[0])
    assert first == [(i, i, i) for i in (0, 16, 32, 48)]
    assert second == [(i, i, i) for i in (49, 65, 80, 96)]


@pytest.mark.parametrize(("frames", "shown"), [(1, [7]), (2, [7, 8]), (3, [7, 8, 9]), (4, [7, 8, 9, 10])])
def test_a_shot_of_few_frames_shows_each_once(frames, shown):
    assert contact_sheet._spread(7, 7 + frames) == shown


def test_only_the_frames_it_shows_are_kept_and_only_small():
    sheet = sheet_of([(0, 61), (61, 121)], ["", ""], height=480, width=832)
    assert sorted(sheet._thumbnails) == [0, 20, 40, 60, 61, 81, 100, 120]
    assert all(thumb.width <= BOX[0] and thumb.height <= BOX[1] for thumb in sheet._thumbnails.values())


def test_a_frame_may_be_a_tensor():
    sheet = ContactSheet([(0, 1)], [""], fps=15)
    sheet.add(0, torch.full((64, 112, 3), 200, dtype=torch.uint8))
    assert sheet._thumbnails[0].getpixel((5, 5)) == (200, 200, 200)


@pytest.mark.parametrize(("height", "width"), [(64, 112), (112, 64), (480, 832), (832, 480), (480, 480)])
@pytest.mark.parametrize("shots", [1, 5, 13])
def test_frames_keep_their_proportions_and_fill_the_box(height, width, shots):
    cuts = [(i * 9, (i + 1) * 9) for i in range(shots)]
    sheet = sheet_of(cuts, ["A caption."] * shots, height=height, width=width)
    thumb = sheet._thumbnails[0]
    assert thumb.width / thumb.height == pytest.approx(width / height, rel=0.02)
    assert thumb.width == BOX[0] or thumb.height == BOX[1]
    picture = sheet.draw()
    assert picture.width == 2 * MARGIN + COLUMNS * thumb.width + (COLUMNS - 1) * GAP
    assert picture.height > shots * thumb.height


def test_nothing_is_drawn_into_the_margins():
    pixels = np.asarray(sheet_of([(0, 9), (9, 17)], [LONG, "word" * 400]).draw())
    for border in (pixels[:MARGIN], pixels[-MARGIN:], pixels[:, :MARGIN], pixels[:, -MARGIN:]):
        assert (border == BACKGROUND).all()


def test_a_longer_caption_takes_more_room_up_to_three_lines():
    heights = [sheet_of([(0, 9)], [text]).draw().height for text in ("", "Short.", LONG, LONG * 2)]
    assert heights[0] < heights[1] < heights[2] == heights[3]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("  one\n two ", ["one two"]),
        ("aaaa bbbb cc", ["aaaa bbbb", "cc"]),
        ("aaaa bbbbb", ["aaaa bbbbb"]),
        ("0123456789abc", ["0123456789", "abc"]),
        ("aaaaaaaaa bbbbbbbbb ccccccccc", ["aaaaaaaaa", "bbbbbbbbb", "ccccccccc"]),
        ("aaaaaaaaa bbbbbbbbb cccccccc, d e f", ["aaaaaaaaa", "bbbbbbbbb", "cccccccc…"]),
        ("镜头一二三四五六七八九十", ["镜头一二三四五六七八", "九十"]),
    ],
)
def test_captions_break_at_spaces_and_end_in_an_ellipsis(text, lines):
    assert contact_sheet._wrap(text, len, 10) == lines


def test_a_film_cut_short_leaves_empty_places():
    sheet = ContactSheet([(0, 9), (9, 17)], ["", ""], fps=15)
    sheet.add(0, np.full((64, 112, 3), 200, np.uint8))
    greys = greys_of_row(sheet.draw(), MARGIN + HEADER_HEIGHT + 20, BOX[0])
    assert greys == [(200, 200, 200)] + [contact_sheet.EMPTY] * 3


def test_any_font_will_do(monkeypatch):
    monkeypatch.setattr(contact_sheet, "FONTS", ("no such font.ttf",))
    assert sheet_of([(0, 9)], ["Plain caption"]).draw().height > 100


def test_the_saved_sheet_is_the_drawn_one_and_replaces_an_older(tmp_path):
    sheet = sheet_of([(0, 9)], ["镜头 — Женщина"])
    for _ in range(2):
        sheet.save(tmp_path / "sheet.png")
    assert list(tmp_path.iterdir()) == [tmp_path / "sheet.png"]
    with Image.open(tmp_path / "sheet.png") as saved:
        assert saved.format == "PNG"
        assert np.array_equal(np.asarray(saved), np.asarray(sheet.draw()))


def test_a_sheet_that_cannot_be_saved_leaves_nothing(tmp_path):
    sheet = sheet_of([(0, 9)], ["caption"])
    (tmp_path / "sheet.png").mkdir()
    for path in (tmp_path / "sheet.png", tmp_path / "no folder" / "sheet.png"):
        with pytest.raises(OutputError, match=r"sheet\.png: cannot be written"):
            sheet.save(path)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_every_character_is_drawn_with_a_font_that_has_it():
    """Which fonts there are differs; what one of them has, no box may stand for."""
    face = Typeface(contact_sheet.load_font(17))
    text = "a road Ж ع 镜 ไทย ☂"
    runs = list(face._runs(text))
    assert "".join(run for _, run in runs) == text
    for font, run in runs:
        assert all(has(font, each) for each in run if each != " " and each not in face.missing), run
    assert face.length(text) == pytest.approx(sum(font.getlength(run) for font, run in runs))
    assert not face.missing & set("a road")


def test_a_font_that_has_more_is_found(monkeypatch):
    fonts = [path for path in installed_fonts() if has(ImageFont.truetype(str(path), 17), "Ж")]
    if not fonts:
        pytest.skip("no font here has Cyrillic")
    narrow = Typeface(ImageFont.load_default(17))
    monkeypatch.setattr("holo_lite.film.fonts.has", lambda font, each: each != "Ж" or font.path == str(fonts[-1]))
    assert narrow._font("Ж").path == str(fonts[-1])
    assert narrow._font("a") is narrow.main


def test_which_font_is_missing_is_told(caplog, monkeypatch):
    monkeypatch.setattr("holo_lite.film.fonts.has", lambda _, each: each.isascii())
    sheet_of([(0, 5)], ["镜头 ไทย 한 ☂ and more"]).draw()
    (record,) = caplog.records
    assert "install Noto Emoji, Noto Sans CJK, Noto Sans Thai" in record.getMessage()


def test_a_mark_stays_with_its_letter():
    face = Typeface(contact_sheet.load_font(17))
    assert [run for _, run in face._runs("e\u0301\u200d")] == ["e\u0301\u200d"]
