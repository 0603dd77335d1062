"""Draw the layers of docs/architecture.md and docs/architecture.svg from the table that the import test holds.

    python scripts/draw_architecture.py

What a package is for is read from the first sentence of its docstring.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
DRAWING = ROOT / "docs" / "architecture.svg"
TABLE = re.compile(r"(?<=<!-- layers -->\n).*?(?=<!-- end of layers -->)", re.DOTALL)
BOXES = re.compile(r'(?<=<g id="layers">\n).*?(?=  </g>)', re.DOTALL)
TOP, BOTTOM, LEFT, WIDTH, GAP, BREAK = 52, 684, 872, 288, 6, 40

Layers = Sequence[Sequence[str]]


def file_of(name: str) -> str:
    """How a module or package is named on the page: `errors.py`, `story/`."""
    short = name.removeprefix("holo_lite.")
    return f"{short}/" if (ROOT / name.replace(".", "/")).is_dir() else f"{short}.py"


def purpose(name: str) -> str:
    """The first sentence of a module's or package's docstring."""
    path = ROOT / name.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    sentence = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.])\s", sentence)[0].rstrip(".")


def table(layers: Layers) -> str:
    """The table of the page, from top to bottom: one line a package, one cell of the first column a row."""
    lines = ["| row | package | what it is |", "| --- | --- | --- |"]
    for number, names in reversed([*enumerate(layers)]):
        lines += [f"| {number} | `{file_of(name)}` | {purpose(name)} |" for name in names]
    return "\n".join(lines) + "\n"


def boxes(layers: Layers) -> str:
    """The boxes of the drawing, from top to bottom, one a row."""
    height = (BOTTOM - TOP + GAP) / len(layers) - GAP
    shapes = []
    for place, names in enumerate(reversed(layers)):
        y = TOP + place * (height + GAP)
        shapes.append(f'<rect class="box" x="{LEFT}" y="{y:g}" width="{WIDTH}" height="{height:g}" rx="5"/>')
        lines = _lines([file_of(name) for name in names])
        for line, text in enumerate(lines):
            base = y + height * (line + 1) / (len(lines) + 1) + 4
            shapes.append(f'<text class="mod mid" x="{LEFT + WIDTH // 2}" y="{base:.4g}">{text}</text>')
    return "".join(f"    {shape}\n" for shape in shapes)


def _lines(names: Sequence[str]) -> list[str]:
    """Names on as few lines as are wide enough."""
    lines: list[list[str]] = [[]]
    for name in names:
        if len("  ".join([*lines[-1], name])) > BREAK:
            lines.append([])
        lines[-1].append(name)
    return ["&#160; ".join(line) for line in lines]


def page(layers: Layers) -> str:
    """The page with its table drawn again."""
    return TABLE.sub(lambda _: table(layers), PAGE.read_text(encoding="utf-8"))


def drawing(layers: Layers) -> str:
    """The drawing with its boxes drawn again."""
    return BOXES.sub(lambda _: boxes(layers), DRAWING.read_text(encoding="utf-8"))


def main() -> None:
    """Write both files."""
    sys.path.insert(0, str(ROOT / "tests"))
    from layers import LAYERS

    PAGE.write_text(page(LAYERS), encoding="utf-8")
    DRAWING.write_text(drawing(LAYERS), encoding="utf-8")


if __name__ == "__main__":
    main()
