"""Several cards next to each other, as a table for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from holo_lite.errors import FitError
from holo_lite.preflight.comparison import Outlook
from holo_lite.preflight.forecast import Forecast
from holo_lite.system.units import memory_text, span_text
from holo_lite.views.forecast import NOTHING, WIDTH, made, page_width, wrapped

HEADS = ("card", "fits", "scheme", "blocks", "peak", "time")
BLOCKS = HEADS.index("blocks")


def comparison_lines(outlooks: Sequence[Outlook], width: int = WIDTH) -> Iterator[str]:
    """Cards as rows: whether the clip fits, stored how, blocks that stay, peak memory and time."""
    page, found = page_width(width), [outlook.forecast for outlook in outlooks if outlook.forecast]
    yield from wrapped(f"fits on {len(found)} of {len(outlooks)} cards", page)
    for report in found[:1]:
        yield from wrapped(made(report.settings), page)
    yield ""
    yield from _table(outlooks, page)
    yield ""
    basis = "times are arithmetic by NVIDIA's figures, not measured; blocks: those that stay on the card (+ of the "
    yield from wrapped(f"{basis}next expert's); give one --gpu alone for its whole plan", page)


def _table(outlooks: Sequence[Outlook], page: int) -> Iterator[str]:
    rows = [HEADS, *(_cells(outlook) for outlook in outlooks)]
    widths = _widths(rows)
    if sum(widths) + 2 * len(widths) > page:  # a narrow page: without the blocks
        rows = [row[:BLOCKS] + row[BLOCKS + 1 :] for row in rows]
        widths = _widths(rows)
    for row in rows:
        if len(row) == len(widths):
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        else:
            yield from _refused(row, widths, page)


def _widths(rows: Sequence[tuple[str, ...]]) -> list[int]:
    """The columns' widths; the reason in a short row takes the place of several columns."""
    whole = [row for row in rows if len(row) == len(rows[0])]
    return [max(len(row[place]) for row in (rows if place < 2 else whole)) for place in range(len(rows[0]))]


def _refused(row: tuple[str, ...], widths: Sequence[int], page: int) -> list[str]:
    """A row whose reason takes the place of the other cells."""
    head = f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  "
    return textwrap.wrap(row[2], page, initial_indent=head, subsequent_indent=" " * len(head))


def _cells(outlook: Outlook) -> tuple[str, ...]:
    name, found = outlook.gpu or "", outlook.found
    return (name, "no", found.short) if isinstance(found, FitError) else (name, "yes", *_figures(found))


def _figures(report: Forecast) -> tuple[str, ...]:
    plan = report.plan
    blocks = f"{plan.resident}/{plan.blocks}" + (f" + {plan.resident_other}" if plan.resident_other else "")
    seconds = NOTHING if report.seconds is None else span_text(report.seconds)
    return plan.scheme, blocks, memory_text(max(plan.peak.values())), seconds
