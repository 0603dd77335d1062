"""Several cards that make one clip together, as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from holo_lite.errors import FitError
from holo_lite.model.clip import common
from holo_lite.plan.rank_plans import LINK, Spread
from holo_lite.preflight.together import TogetherForecast
from holo_lite.system.units import bytes_text, duration_text, memory_text
from holo_lite.views.forecast import NOTHING, WIDTH, page_width, wrapped

HEADS = ("device", "computes", "peak", "blocks", "arithmetic a step")
BRANCHES: Mapping[tuple[int, ...], str] = {(0,): "the prompt", (1,): "the negative prompt"}


def together_lines(found: TogetherForecast | FitError, width: int = WIDTH) -> Iterator[str]:
    """Who computes what, peak memory and time of each, what travels, and what is gained over the first alone."""
    page = page_width(width)
    if isinstance(found, FitError):
        yield from wrapped(f"together: does not fit: {found}", page)
        return
    yield from wrapped(f"together: {together_answer(found)}", page)
    rows = [HEADS, *_rows(found)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEADS))]
    for row in rows:
        yield "  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip()
    yield from wrapped(_travels(found), page)


def together_answer(found: TogetherForecast) -> str:
    """That it fits, who computes what, and what is gained."""
    spread = found.spread
    gain = f"about {spread.gain:.1f} times as fast as {found.stations[0].name} alone"
    if not found.known:
        return f"fits; {spread.way}; {gain}, if all are as fast as each other (arithmetic)"
    return f"fits; {spread.way}; {duration_text(spread.step)} a step, {gain} (arithmetic)"


def _rows(found: TogetherForecast) -> Iterator[tuple[str, ...]]:
    spread = found.spread
    for rank, (station, plan) in enumerate(zip(found.stations, spread.plans, strict=True)):
        seconds = duration_text(spread.seconds[rank]) if found.known else NOTHING
        peak, blocks = memory_text(max(plan.peak.values())), f"{plan.resident}/{plan.blocks}"
        yield station.name, _part(found, rank), peak, blocks, seconds


def _part(found: TogetherForecast, rank: int) -> str:
    """What a rank computes: branches, and frames of the video where that is not all of them."""
    part, layout = found.spread.parts[rank], found.request.layout
    branch = BRANCHES.get(part.branches, "both prompts") if found.settings.is_guided else "the prompt"
    if part.of == 1:
        return branch
    share = len(part.tokens) / layout.tokens
    shots = [n + 1 for n in range(layout.shots) if common(layout.token_span(n), part.tokens)]
    named = f"shot {shots[0]}" if len(shots) == 1 else f"shots {shots[0]} to {shots[-1]}"
    return f"{branch}, {named} ({share:.0%})"


def _travels(found: TogetherForecast) -> str:
    spread: Spread = found.spread
    if not spread.sent:
        return "between devices: only velocities, once a step"
    return (
        f"between devices: {bytes_text(spread.sent)} a block, {bytes_text(found.sent_a_step)} a step, counted as "
        f"{bytes_text(LINK)}/s (an assumption)"
    )
