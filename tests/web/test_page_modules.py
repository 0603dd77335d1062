"""The page's own files: their types, their size, and what must not stand in them. No browser is needed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from holo_lite.web.routes import STATIC

TSC = "no TypeScript here: npm install --global typescript@7.0.2"
LONGEST = 350  # lines
FIRST_PAGE = 150_000  # bytes of what comes before anything is clicked
IMPORT = re.compile(r'^(?:import|export) (?:[^"]* from )?"\./([\w.]+)";', re.MULTILINE)
LATER = re.compile(r'import\("\./([\w.]+)"\)')
SHEET = re.compile(r'\bstyles\("(\w+)"\)')
LINKED = re.compile(r'(?:href|src)="/static/([\w.]+)"')
HTML_FROM_TEXT = (
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "new Function",
    "<canvas",
)


def sources(*endings):
    return sorted(path for path in STATIC.iterdir() if path.suffix in endings)


def first_page():
    """The page, what it links to, and what those modules import before anything is clicked."""
    found, waiting = {"index.html", "icons.svg", "stream.js"}, ["index.html"]
    while waiting:
        text = (STATIC / waiting.pop()).read_text(encoding="utf-8")
        new = {*IMPORT.findall(text), *LINKED.findall(text)} - found
        found |= new
        waiting += new
    return found


def test_the_modules_keep_to_their_types():
    program = shutil.which("tsc")
    if program is None:
        pytest.skip(TSC)
    said = subprocess.run([program, "-p", Path(__file__).parent], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout


def test_the_first_page_is_small():
    sizes = {name: (STATIC / name).stat().st_size for name in first_page()}
    assert sum(sizes.values()) <= FIRST_PAGE, sizes


def test_every_file_is_used_and_every_import_is_there():
    used = {*first_page(), "types.d.ts"}
    for path in sources(".js"):
        text = path.read_text(encoding="utf-8")
        used |= {*IMPORT.findall(text), *LATER.findall(text), *(f"{name}.css" for name in SHEET.findall(text))}
    assert used == {path.name for path in STATIC.iterdir()}


def test_every_icon_that_is_named_is_drawn():
    drawn = set(re.findall(r'<symbol id="(\w+)"', (STATIC / "icons.svg").read_text(encoding="utf-8")))
    texts = [path.read_text(encoding="utf-8") for path in sources(".js")]
    named = {name for text in texts for name in re.findall(r'\b(?:icon|button|small)\(\s*"(\w+)"', text)}
    assert named, "icons are named where they are used"
    assert named <= drawn


@pytest.mark.parametrize("path", sources(".js", ".css", ".html", ".ts"), ids=lambda path: path.name)
def test_a_file_is_short_and_takes_nothing_from_elsewhere(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    assert [word for word in HTML_FROM_TEXT if word in text] == []
    addresses = set(re.findall(r"https?://[^\s\"'`)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}, "the page asks nobody but its own server"


def test_the_page_has_no_script_or_style_inside():
    text = (STATIC / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*\ssrc=)", text) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:|data:", text) == []
