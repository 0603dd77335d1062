"""Rows of the live display: cells that fit the terminal, the less important ones left out, none of them cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from holo_lite.views.pace import Pace
from holo_lite.views.whole import WholeRun

NARROWEST, WIDEST = 8, 40  # columns of a bar


@dataclass(frozen=True)
class Cell:
    """A text of a row, and its rank: where room is short, the highest ranks go first. None: the bar's place."""

    rank: int
    text: str | None

    @property
    def width(self) -> int:
        """Columns that it needs at least."""
        return NARROWEST if self.text is None else cell_len(self.text)


def fit(cells: Iterable[Cell], width: int) -> list[Cell]:
    """Those cells that have room next to each other, in their order; the first rank is always among them."""
    present = [cell for cell in cells if cell.text != ""]
    chosen: list[Cell] = []
    for cell in sorted(present, key=lambda each: each.rank):
        if chosen and sum(each.width + 1 for each in chosen) + cell.width > width:
            break
        chosen.append(cell)
    return [cell for cell in present if cell in chosen]


def row(cells: Iterable[Cell], bar: ProgressBar, width: int, spinner: Spinner | None = None) -> RenderableType:
    """A row at most `width` columns wide, after the spinner or its empty place."""
    chosen = fit(cells, width - 2)
    spare = width - 2 - sum(cell.width + 1 for cell in chosen) + 1
    bar.width = min(WIDEST, NARROWEST + max(0, spare))
    grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    for _ in range(len(chosen) + 1):
        grid.add_column(no_wrap=True)
    shown = (bar if cell.text is None else Text(cell.text, overflow="ellipsis") for cell in chosen)
    grid.add_row(spinner or " ", *shown)
    return grid


def phase_row(pace: Pace, detail: str, width: int, spinner: Spinner) -> RenderableType:
    """The running phase: how far, how long, how fast, and of its detail as many parts as have room."""
    task = pace.task
    bar = ProgressBar(task.total, task.completed, pulse=task.total is None, animation_time=task.get_time())
    first = (Cell(0, pace.title), Cell(5, pace.subject), Cell(3, None), Cell(2, pace.count()))
    more = (Cell(6 + rank, part) for rank, part in enumerate(detail.split(", ")) if part)
    return row((*first, Cell(1, pace.time()), Cell(4, pace.rate()), *more), bar, width, spinner)


def run_row(run: WholeRun, width: int) -> RenderableType | None:
    """The whole run, once anything is known of it."""
    found = run.cells()
    if found is None:
        return None
    name, part, left, everything = found
    bar = ProgressBar(1.0, run.part() or 0.0)
    cells: Sequence[Cell] = (Cell(0, name), Cell(4, None), Cell(2, part), Cell(1, left), Cell(3, everything))
    return row(cells, bar, width)
