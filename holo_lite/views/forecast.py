"""A plan as lines for a person: the answer first, then what is made, memory, and the details."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from holo_lite.plan.cost import first_step_rate, needed_rate
from holo_lite.plan.nearest import size_text
from holo_lite.plan.plan import PhasePlan, Plan
from holo_lite.plan.profile import MIB
from holo_lite.preflight.forecast import Forecast
from holo_lite.settings import RunSettings
from holo_lite.system.units import bytes_text, duration_text, memory_text, span_text

WIDTH, NARROWEST = 100, 50  # columns
HEADS = ("phase", "steps", "time", "pinned", "read a step", "PFLOP a step")
WHOLE_TABLE = 88  # columns it needs; a narrower page gets the first four
NOTHING = "-"


def forecast_lines(report: Forecast, width: int = WIDTH) -> Iterator[str]:
    """Everything about a plan, line by line, none wider than `width` columns or 100."""
    page = page_width(width)
    for text in (answer(report), made(report.settings), *_terms(report)):
        yield from wrapped(text, page)
    yield ""
    yield from _table(report, whole=page >= WHOLE_TABLE)
    yield ""
    for text in _details(report):
        yield from wrapped(text, page)


def page_width(width: int) -> int:
    """The columns to write on, within what can be read."""
    return min(max(width, NARROWEST), WIDTH)


def answer(report: Forecast) -> str:
    """Whether it fits, and how long it takes."""
    if report.rate is None or report.seconds is None:
        return f"fits on {report.place}; how long it takes is not known: {report.no_rate}"
    basis = "at the rate measured here" if report.rate.measured else "by NVIDIA's figure, not measured"
    return f"fits on {report.place}: about {span_text(report.seconds)} (arithmetic {basis})"


def made(settings: RunSettings) -> str:
    """What is made: length, size, shots and steps."""
    frames, shots, guided = settings.shown.num_frames, len(settings.shown_captions), settings.is_guided
    guidance = "" if settings.cfg_until == 1 else f", guidance in the first {settings.guided_steps}"
    return (
        f"video: {frames / settings.fps:.1f} s ({frames} frames at {settings.fps:g} fps), "
        f"{size_text(settings.layout)}, {shots} {'shot' if shots == 1 else 'shots'}, {settings.steps} "
        f"{'step' if settings.steps == 1 else 'steps'}{guidance if guided else ' without guidance'}"
    )


def _terms(report: Forecast) -> Iterator[str]:
    """The rest of what should be read first."""
    plan = report.plan
    others = f", and {plan.resident_other} of the next expert's" if plan.resident_other else ""
    yield (
        f"memory: at most {memory_text(max(plan.peak.values()))} of {memory_text(plan.budget)} that may be used; "
        f"{plan.resident} of {plan.blocks} blocks stay on the device{others}"
    )
    yield f"model: {report.model}"
    yield from report.computing
    yield from (f"note: {note}" for note in report.notes)
    found = [advice.text for advice in (report.longest, report.largest) if advice]
    if found:
        yield f"most that fits: {', or '.join(found)}"


def _table(report: Forecast, *, whole: bool) -> Iterator[str]:
    columns = len(HEADS) + 1 if whole else 4
    memory = "peak RAM" if report.plan.device == "cpu" else "peak VRAM"
    yield _row((*HEADS[:2], memory, *HEADS[2:])[:columns])
    for name, phase in report.plan.phases.items():
        cost = report.costs[name]
        seconds = NOTHING if report.rate is None else duration_text(cost.seconds(report.rate))
        peak, *others = _bytes(phase)
        cells = (name.replace("_", "-"), str(cost.steps), peak, seconds, *others, f"{cost.step.total / 1e15:.3g}")
        yield _row(cells[:columns])


def _bytes(phase: PhasePlan) -> Iterable[str]:
    return (memory_text(count) if count else NOTHING for count in (phase.peak, phase.pinned, phase.streamed))


def _row(cells: Sequence[str]) -> str:
    name, steps, *others = cells
    return f"{name:11}{steps:>6}" + "".join(f"{cell:>14}" for cell in others)


def _details(report: Forecast) -> Iterator[str]:
    yield report.why
    yield _way(report.plan, guided=report.settings.is_guided)
    yield _rows(report)
    yield _decode(report.plan)
    yield from _time(report)


def _way(plan: Plan, *, guided: bool) -> str:
    """How blocks are visited."""
    branches = "both guidance branches in one visit of a block" if plan.joint else "one guidance branch at a time"
    kept, chunks = plan.pinned_cache_blocks, plan.chunks
    return "denoising: " + ", ".join(
        [
            *([branches] if guided else []),
            *([f"{kept} blocks of each expert in pinned memory"] if kept else []),
            f"chunks of {chunks.attention} tokens in attention and {chunks.feed_forward} in the feed-forward",
            *(["a shot's inputs held for its queries"] if chunks.holding else []),
            *(["room for a step cache"] if plan.step_cache else []),
        ]
    )


def _rows(report: Forecast) -> str:
    """What takes the most memory while denoising; what is less than 1 MiB is left out."""
    rows = [f"{memory_text(nbytes)} {name}" for name, nbytes in report.rows.items() if nbytes >= MIB]
    return f"denoising at its peak: {', '.join(rows)}" if rows else "denoising at its peak: less than 1 MiB of each"


def _decode(plan: Plan) -> str:
    if plan.tile is None:
        return "decode: whole frames"
    caches = f"their caches take {memory_text(plan.tile_caches)} of main memory"
    return f"decode: in overlapping tiles of {plan.tile[1]}×{plan.tile[0]} latents, blended; {caches}"


def _time(report: Forecast) -> Iterator[str]:
    if report.rate is None or report.seconds is None:
        return
    cached = "; with --cache it will take less, depending on the clip" if report.plan.step_cache else ""
    yield (
        f"time: {duration_text(report.seconds)} of arithmetic, {report.rate.basis}; a prompt counts as 512 tokens"
        f"{cached}"
    )
    device, disk = needed_rate(report.plan, report.costs, report.rate)
    if device:
        yield _streaming(device, disk, report.link)
    yield (
        f"first step of each expert: reads all of it from disk, {bytes_text(max(report.read.values()))}; costs no "
        f"time if the disk gives {bytes_text(first_step_rate(report.read, report.costs, report.rate))}/s"
    )


def _streaming(device: float, disk: float, link: float | None) -> str:
    """How fast weights must arrive, in bytes a second, so that arithmetic never waits; and whether the link can."""
    needs = f"{bytes_text(device)}/s from RAM"
    if disk:
        needs += f", of which {bytes_text(disk)}/s from disk"
    if link is None:
        return f"streaming: costs no time if weights arrive at {needs}"
    if device > link:
        return f"streaming: limits the speed: needs {needs}, and PCIe gives at most {bytes_text(link)}/s"
    return f"streaming: costs no time: needs {needs} (PCIe gives at most {bytes_text(link)}/s)"


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines of that many columns; words and options stay whole."""
    return textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
