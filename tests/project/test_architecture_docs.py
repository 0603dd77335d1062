"""The page on the architecture and its drawing show the tree as it stands."""

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from layers import LAYERS
from test_imports import PACKAGES

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import draw_architecture  # noqa: E402

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"
SVG_TEXT = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
DRAWING = ET.fromstring(SVG_TEXT)
NAME = re.compile(r"[\w/]+(?:\.py|/)")


def named(text):
    """Files and folders that a text names as code."""
    return [name for code in re.findall(r"`([^`]+)`", text) for name in NAME.findall(code)]


def drawn(element):
    """Files and folders of a part of the drawing, in the order in which they stand in it."""
    texts = [text.text for text in element.iter(f"{SVG}text") if "mod" in text.get("class", "").split()]
    return [name for text in texts for name in NAME.findall(text)]


def place(name):
    """Where something is that is named without its folder."""
    homes = [ROOT, ROOT / "holo_lite", ROOT / "holo_lite" / "model"]
    return next((home / name for home in homes if (home / name).exists()), None)


NAMED = {*named(PAGE), *drawn(DRAWING)}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_what_is_named_exists(name):
    assert place(name) is not None
    assert place(name).is_dir() == name.endswith("/")


def test_every_package_is_named():
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")}
    packages = {f"{folder.name}/" for folder in folders} - {"holo_lite/"}
    assert packages - {*named(PAGE)} == set()
    assert packages - {*drawn(DRAWING)} == set()


def test_the_page_shows_its_drawing():
    assert "](architecture.svg)" in PAGE


def test_the_table_and_the_drawing_are_those_of_the_layers():
    """`make architecture` writes both."""
    assert draw_architecture.page(LAYERS) == PAGE
    assert draw_architecture.drawing(LAYERS) == SVG_TEXT


def test_boxes_are_as_many_as_rows_and_hold_their_texts():
    (group,) = (found for found in DRAWING.iter(f"{SVG}g") if found.get("id") == "layers")
    boxes, texts = group.findall(f"{SVG}rect"), group.findall(f"{SVG}text")
    inside = [[text for text in texts if within(text, box)] for box in boxes]
    assert sum(map(len, inside)) == len(texts)
    names = [[name for text in found for name in NAME.findall(text.text)] for found in inside]
    assert names == [[draw_architecture.file_of(name) for name in row] for row in reversed(LAYERS)]


def within(text, box):
    top = float(box.get("y"))
    return top < float(text.get("y")) < top + float(box.get("height"))


def test_another_table_is_another_page():
    assert draw_architecture.page(LAYERS[:-1]) != PAGE
    assert draw_architecture.drawing(LAYERS[:-1]) != SVG_TEXT


@pytest.mark.parametrize("name", [name for row in LAYERS for name in row])
def test_every_package_says_what_it_is_for(name):
    """In a sentence that fits into a table."""
    assert 10 < len(draw_architecture.purpose(name)) < 120
