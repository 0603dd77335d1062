"""The page on the architecture and its drawing show the tree as it stands."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from test_imports import LAYERS, PACKAGES, layer

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"
DRAWING = ET.parse(ROOT / "docs" / "architecture.svg").getroot()
NAME = re.compile(r"[\w/]+(?:\.py|/)")
TOPMOST = "cli.py"


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


def module(name):
    found = place(name).relative_to(ROOT).with_suffix("")
    return ".".join(found.parts)


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


def in_layers(name):
    """The number of the layer that a name has of its own in LAYERS, from the ground up."""
    assert module(name) in {known for names in LAYERS for known in names}, name
    return layer(module(name))


def points_down(groups):
    """Whether nothing in a group may import from the group above it, unless both are of one layer."""
    numbers = [[in_layers(name) for name in group] for group in groups]
    return all(min(above) >= max(below) for above, below in pairwise(numbers))


def test_lines_of_the_table_stand_as_imports_point():
    rows = [named(cells) for cells in re.findall(r"^\| (`[^|]+) \|", PAGE, flags=re.MULTILINE)]
    assert rows[0][0] == TOPMOST
    assert len(rows) > 15
    assert points_down(rows)


def test_boxes_of_the_drawing_stand_as_imports_point():
    (group,) = (found for found in DRAWING.iter(f"{SVG}g") if found.get("id") == "layers")
    boxes, texts = group.findall(f"{SVG}rect"), group.findall(f"{SVG}text")
    assert boxes
    inside = [[text for text in texts if within(text, box)] for box in boxes]
    assert sum(map(len, inside)) == len(texts)
    names = [[name for text in found for name in NAME.findall(text.text)] for found in inside]
    assert names[0][0] == TOPMOST
    assert [float(box.get("y")) for box in boxes] == sorted(float(box.get("y")) for box in boxes)
    assert points_down(names)


def within(text, box):
    top = float(box.get("y"))
    return top < float(text.get("y")) < top + float(box.get("height"))


def test_a_wrong_order_would_be_found():
    assert points_down([["pipeline.py"], ["denoise.py", "encode.py"], ["errors.py"]])
    assert not points_down([["pipeline.py"], ["errors.py"], ["denoise.py"]])
    assert not points_down([["pipeline.py", "errors.py"], ["denoise.py"]])
