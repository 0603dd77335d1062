"""A storyboard drawn as a timeline: one row per shot, its bar at the shot's place in the video.

shot        0 s      2 s      4 s      6 s      8 s       frames      seconds  tokens
   1        █████████                                        0–48       3.3 s      34  Wide shot of the …
   2                 █████████                              49–100      3.5 s      31  cut 48 → 49
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from holo_lite.preflight.check import CheckReport, ShotLine, Tokens
from holo_lite.views.terminal import shown

WIDEST, NARROWEST = 140, 60  # columns of a page
NUMBERS = 41  # columns next to the bars: number of the shot, frames, seconds, tokens
STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600)  # seconds from mark to mark on the ruler
ROOM = 7  # columns a mark needs
COLOURS = ("cyan", "blue")
FULL, HALF, EMPTY = "█", "▒", "·"


def report_lines(report: CheckReport, width: int) -> Iterator[Text]:
    """Draw a report on a page of `width` columns."""
    page = min(max(width, NARROWEST), WIDEST)
    bars = (page - NUMBERS) * 3 // 5
    yield Text(_title(report), "bold")
    yield Text()
    yield _ruler(report, bars)
    for shot in report.shots:
        yield _shot(shot, report, bars, page)
    yield Text()
    yield from _budget(report, page)
    yield from _rounded(report)
    yield from _findings(report)


def _title(report: CheckReport) -> str:
    shots = "1 shot" if len(report.shots) == 1 else f"{len(report.shots)} shots"
    length = f"{report.frames} frames, {report.frames / report.fps:.1f} s at {report.fps:g} fps"
    named = f"{shown(' '.join(report.title.split()))}: " if report.title else ""
    return f"{named}{shots}, {length}, {report.width}×{report.height}"


def _ruler(report: CheckReport, bars: int) -> Text:
    """The scale above the bars, with a mark every few seconds."""
    seconds = report.frames / report.fps
    step = next((each for each in STEPS if each / seconds * bars >= ROOM), STEPS[-1])
    line = [" "] * (bars + ROOM)
    for count in range(int(seconds / step) + 1):
        place, mark = round(count * step / seconds * bars), f"{count * step:g} s"
        if place + len(mark) <= bars + ROOM // 2:
            line[place : place + len(mark)] = mark
    heads = f"{'frames':^11}  seconds" + ("  tokens" if report.tokens and report.tokens.shots else "")
    return Text(f"shot  {''.join(line)[: bars + 2]}{heads}", "dim")


def _shot(shot: ShotLine, report: CheckReport, bars: int, page: int) -> Text:
    start, end = (round(frame / report.frames * bars) for frame in (shot.first, shot.end))
    bar = (" " * start + FULL * max(end - start, 1))[-bars:].ljust(bars)
    numbers = f"{shot.first:>5}–{shot.end - 1:<5}  {shot.seconds:5.1f} s"
    if report.tokens and report.tokens.shots:
        numbers += f"  {shot.tokens:>6}"
    colour = "yellow" if any(shot.number in found.shots for found in report.findings) else _colour(shot.number)
    line = Text.assemble(f"{shot.number:>4}  ", (bar, colour), f"  {numbers}  ")
    room = page - line.cell_len
    caption = Text(shown(shot.caption), "dim")
    caption.truncate(max(room, 0), overflow="ellipsis")
    return line + caption


def _budget(report: CheckReport, page: int) -> Iterator[Text]:
    """How many of the available tokens the captions take, drawn to scale."""
    tokens = report.tokens
    if tokens is None:
        yield Text(f"tokens  not counted (about {report.words} words): pass --model or --tokenizer")
        return
    said = f"  {tokens.total} of {tokens.limit}"
    room = page - len("tokens  ") - len(said)
    yield Text.assemble("tokens  ", *_pieces(tokens, room), (said, "bold red" if _is_too_long(tokens) else ""))
    if tokens.shots:
        own = f"{sum(tokens.shots)} in the shots' own captions"
        unseen = f", {tokens.memory} in those of shots that are not shown" if tokens.memory else ""
        yield Text(f"        {HALF} {tokens.shared} in the global caption{unseen}   {FULL} {own}", "dim")


def _is_too_long(tokens: Tokens | None) -> bool:
    return tokens is not None and tokens.total > tokens.limit


def _pieces(tokens: Tokens, room: int) -> Iterator[tuple[str, str]]:
    scale = room / max(tokens.limit, tokens.total)
    edge = place = 0
    for number, count in enumerate((tokens.shared + tokens.memory, *tokens.shots)):
        edge += count
        cells = round(edge * scale) - place
        place += cells
        yield (FULL if number else HALF) * cells, _colour(number)
    yield EMPTY * (room - place), "dim"


def _rounded(report: CheckReport) -> Iterator[Text]:
    """The length and the cuts asked for, where they had to be rounded."""
    said = [f"cut {s.asked} → {s.first}" for s in report.shots if s.asked is not None and s.asked != s.first]
    if report.asked != report.frames:
        said.insert(0, f"length {report.asked} → {report.frames}")
    if said:
        form = "4, 8, 12, … behind shots that are not shown" if report.memory else "1, 5, 9, 13, …"
        yield Text(f"rounded {', '.join(said)}: cuts and length must be {form}")


def _findings(report: CheckReport) -> Iterator[Text]:
    for found in report.findings:
        kind, colour = ("note, ", "cyan") if found.is_note else ("", "yellow")
        yield Text.assemble((f"{kind}{found.rule}: ", colour), shown(found.message))
    if report.findings or not _is_too_long(report.tokens):  # too long is an error, which is reported after all this
        yield Text(_count(report.findings), "bold")


def _count(found: Sequence[object]) -> str:
    if not found:
        return "nothing found"
    return "1 finding" if len(found) == 1 else f"{len(found)} findings"


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
