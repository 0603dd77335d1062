"""What a run shows: a live display in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from holo_lite.events import (
    Event,
    Finished,
    FrameDone,
    GoingOn,
    NoPreview,
    NotSaved,
    PhaseStarted,
    PreviewDone,
    Resolved,
    StepDone,
    SteppedDown,
)
from holo_lite.plan.plan import Plan
from holo_lite.progress import Phase
from holo_lite.settings import OFF, RunSettings
from holo_lite.system.units import bytes_text, memory_text
from holo_lite.views.terminal import shown
from holo_lite.views.terminal_pictures import TerminalPicture, protocol_of

TITLES: dict[Phase, str] = {
    "text": "reading the prompt",
    "denoise": "denoising",
    "decode": "decoding and writing",
    "check": "checking",
    "fetch": "fetching",
    "copy": "copying",
    "names": "checking names and shapes",
    "convert": "converting",
    "hash": "hashing",
    "compare": "comparing with the source",
}
NOTABLE = 0.05  # of a step; less is not shown
LINE_EVERY = 10.0  # seconds between plain lines of a phase with many parts


class Display(Protocol):
    """Something that shows a phase's progress."""

    def begin(self, phase: str, pace: Pace) -> None:
        """A phase begins; its pace has no total if it is one part of unknown length."""

    def advance(self, done: int, detail: str) -> None:
        """`done` parts of the phase are done."""

    def say(self, line: str) -> None:
        """Show a line that stays."""

    def picture(self, path: Path, line: str) -> None:
        """Show a line during a phase, and its picture if the terminal can show one."""


@contextmanager
def display(console: Console) -> Iterator[Display]:
    """A live display if the console is a terminal, else one that prints plain lines."""
    if not console.is_terminal:
        yield PlainDisplay(console)
        return
    with LiveDisplay(console) as live:
        yield live


def show(event: Event, view: Display) -> None:
    """Show one event of a run."""
    match event:
        case PhaseStarted():
            begin(event, view)
        case StepDone():
            view.advance(event.done, _step(event))
        case FrameDone(index, _):
            view.advance(index + 1, "frames")
        case PreviewDone(path, done):
            view.picture(path, f"preview        {path}, after step {done}")
        case _:
            for line in _lines(event):
                view.say(line)


def begin(event: PhaseStarted, view: Display) -> None:
    """Show that a phase begins."""
    title = f"{TITLES[event.phase]} {event.subject}".rstrip()
    view.begin(title, Pace(event.total, event.done, in_bytes=event.unit == "bytes"))


def _lines(event: Event) -> Iterator[str]:
    """The lines for an event that is not part of a phase."""
    match event:
        case Resolved():
            yield from _resolved(event)
        case GoingOn():
            yield from _going_on(event)
        case NotSaved(why, saved):
            again = f"continue after step {saved}" if saved else "start over"
            yield f"warning: progress cannot be saved ({why}); if interrupted, the run will {again}"
        case NoPreview(why):
            yield f"note: the run continues without previews ({why})"
        case SteppedDown(_, change):
            yield f"memory ran out: continuing with {change}"
        case Finished(video, sheet, settings):
            if settings.cache != OFF:
                yield _skipped(settings)
            yield from (f"video          {path}" for path in (video,) if path is not None)
            yield from (f"contact sheet  {path}" for path in (sheet,) if path is not None)


def _resolved(event: Resolved) -> Iterator[str]:
    """What is made, and how."""
    settings = event.settings
    size = f"{settings.width}×{settings.height}, {settings.frames} frames"
    shots = "1 shot" if len(settings.shot_frames) == 1 else f"{len(settings.shot_frames)} shots"
    steps = "1 step" if settings.steps == 1 else f"{settings.steps} steps"
    yield f"{shots}, {size}, {steps}, seed {settings.seed}"
    yield from savings(settings)
    yield from (f"note: {note}" for note in event.notes)
    yield event.why
    yield from event.computing
    yield _planned(event.plan)


def savings(settings: RunSettings) -> Iterator[str]:
    """What the run skips, if anything, at a cost to the picture."""
    if settings.cache != OFF:
        high, low = (f"{threshold:g}" if threshold else "none" for threshold in settings.cache)
        yield f"step cache: thresholds {high} for high noise, {low} for low noise"
    if 0 < settings.guided_steps < settings.steps:
        yield f"guidance: in the first {settings.guided_steps} of {settings.steps} steps"


def _skipped(settings: RunSettings) -> str:
    """How many steps were skipped, and which."""
    numbers = settings.plan.get("skipped", ())
    which = f": {', '.join(map(str, numbers))}" if numbers else ""
    return f"skipped (cached): {len(numbers)} of {settings.steps} steps{which}"


def _going_on(event: GoingOn) -> Iterator[str]:
    """Where a run continues, and what has changed since."""
    left = ": only decoding is left" if event.done == event.steps else ""
    yield f"continuing after step {event.done} of {event.steps}{left}"
    if event.changes:
        yield f"note: changed since the start: {'; '.join(event.changes)}: the result may differ in the last bits"


def _step(event: StepDone) -> str:
    """Which expert the step belongs to, its memory of what was planned, and how long it waited for weights."""
    used, waiting = "", ""
    skipped = ", skipped (cached)" if event.skipped else ""
    if event.memory is not None:
        used = f", {memory_text(event.memory)} of {memory_text(event.planned)} VRAM"
    if event.waited_share >= NOTABLE:
        waiting = f", {event.waited_share:.0%} waiting for weights"
    return event.progress.step.expert.replace("_", "-") + skipped + used + waiting


def _planned(plan: Plan) -> str:
    """What a plan needs, on one line."""
    branches = "both guidance branches at once" if plan.joint else "one guidance branch at a time"
    kept = f"{plan.resident} of {plan.blocks} blocks resident{', a step cache' if plan.step_cache else ''}"
    return f"plan: at most {memory_text(max(plan.peak.values()))} of {plan.device} memory, {kept}, {branches}"


class Pace:
    """How far a phase is, how fast it is and how long it has left.

    `total` and `start` (what was done before the phase began) are parts, or bytes.
    """

    def __init__(self, total: int = 0, start: int = 0, *, in_bytes: bool = False) -> None:
        self.total, self._start, self._in_bytes = total, start, in_bytes
        self._began = time.monotonic()

    def count(self, done: int) -> str:
        """For example ``3/8``, or ``1.20 GB of 7.73 GB``."""
        if self._in_bytes:
            return f"{bytes_text(done)} of {bytes_text(self.total)}"
        return f"{done}/{self.total}"

    def estimate(self, done: int) -> str:
        """For example ``12.3 s each, 4:10 left``; nothing before the first part."""
        fresh = done - self._start
        if fresh <= 0:
            return "checked"
        each = max(time.monotonic() - self._began, 1e-9) / fresh
        left = round(each * (self.total - done))
        return f"{self._speed(each)}, {left // 60}:{left % 60:02} left"

    def _speed(self, each: float) -> str:
        if self._in_bytes:
            return f"{1e-6 / each:.0f} MB/s"
        return f"{each:.1f} s each" if each >= 1 else f"{1 / each:.1f} a second"


class PlainDisplay:
    """Lines for logs and pipes: one when a phase begins, then at most one every ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._title, self._pace, self._last = "", Pace(), 0.0

    def begin(self, phase: str, pace: Pace) -> None:
        """Print that a phase begins."""
        self._title, self._pace, self._last = phase, pace, time.monotonic()
        self.say(phase)

    def advance(self, done: int, detail: str) -> None:
        """Print the progress, if the last line is old enough."""
        if done < self._pace.total and time.monotonic() - self._last < LINE_EVERY:
            return
        self._last = time.monotonic()
        self.say(f"{self._title} {self._pace.count(done)} {detail}, {self._pace.estimate(done)}")

    def say(self, line: str) -> None:
        """Print a line as it is."""
        self._console.print(shown(line), markup=False, highlight=False, emoji=False, soft_wrap=True)

    def picture(self, _: Path, line: str) -> None:
        """Print the line: a log shows no pictures."""
        self.say(line)


class LiveDisplay:
    """A bar with phase, parts, pace and time left, redrawn in place."""

    def __init__(self, console: Console) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:22}", markup=False),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[count]} {task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console)
        self._task: TaskID | None = None
        self._pace = Pace()

    def __enter__(self) -> LiveDisplay:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, phase: str, pace: Pace) -> None:
        """Start a new bar; the last one stays, stopped."""
        self._close()
        self._pace = pace
        self._task = self._progress.add_task(shown(phase), total=pace.total or None, count="", detail="")

    def advance(self, done: int, detail: str) -> None:
        """Move the bar."""
        assert self._task is not None, "a phase begins before it advances"
        text = f"{detail}, {self._pace.estimate(done)}"
        self._progress.update(self._task, completed=done, count=self._pace.count(done), detail=shown(text))

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._close()
        self._print(line)

    def picture(self, path: Path, line: str) -> None:
        """Print a line above the bars, which continue, and the picture after it."""
        self._print(line)
        if protocol := protocol_of(os.environ):
            with suppress(OSError):  # it existed a moment ago; a file that is gone is not shown
                self._progress.console.print(TerminalPicture(path.read_bytes(), protocol), crop=False)

    def _print(self, line: str) -> None:
        self._progress.console.print(shown(line), markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _close(self) -> None:
        if self._task is not None and not self._pace.total:
            self._progress.update(self._task, total=1, completed=1)
        if self._task is not None:
            self._progress.stop_task(self._task)
