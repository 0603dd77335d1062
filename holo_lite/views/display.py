"""Where progress is shown: two rows that are redrawn in a terminal, plain lines in a pipe or a log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner

from holo_lite.progress import Unit
from holo_lite.views.pace import Pace, Worth
from holo_lite.views.rows import phase_row, run_row
from holo_lite.views.terminal import shown, wrapped
from holo_lite.views.terminal_pictures import TerminalPicture, protocol_of
from holo_lite.views.whole import WholeRun

LINE_EVERY = 10.0  # seconds between plain lines of a phase with many parts
REDRAWN = 8  # times a second
WORTH_A_LINE = 1.0  # seconds; a phase of one part that took less leaves no line


class Display:
    """Something that shows phases one after the other, and lines between them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pace: Pace | None = None
        self.whole = WholeRun(console.get_time)
        self.times: dict[str, float] = {}  # seconds of each phase since `times` was emptied

    def begin(
        self,
        title: str,
        total: int = 0,
        start: int = 0,
        *,
        unit: Unit = "",
        subject: str = "",
        worth: Worth = float,
    ) -> Pace:
        """A phase begins, and the one before it has ended; its parts are as in `Pace`."""
        self.end()
        self._pace = Pace(self._console, shown(title), total, start, unit=unit, subject=shown(subject), worth=worth)
        self._begun(self._pace)
        return self._pace

    def advance(self, done: int, detail: str) -> None:
        """`done` parts of the phase are done."""
        assert self._pace is not None, "a phase begins before it advances"
        self._pace.advance(done)
        self.whole.measure()
        self._moved(self._pace, shown(detail))

    def end(self) -> None:
        """The phase has ended."""
        pace, self._pace = self._pace, None
        if pace is not None and pace.is_done:
            self.times[pace.title] = self.times.get(pace.title, 0.0) + pace.took
            self._ended(pace)

    def say(self, line: str, *, unbroken: bool = False) -> None:
        """Show a line that stays. `unbroken`: it holds a path or a command, to be copied in one piece."""
        text = shown(line)
        if self._console.is_terminal and not unbroken:
            text = "\n".join(wrapped(text, self._console.width))
        self._console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def picture(self, _: Path, line: str) -> None:
        """Show a line during a phase, and its picture if the terminal can show one."""
        self.say(line, unbroken=True)

    def _begun(self, pace: Pace) -> None:
        """Show that a phase has begun."""

    def _moved(self, pace: Pace, detail: str) -> None:
        """Show how far it is."""

    def _ended(self, pace: Pace) -> None:
        """Show what it was."""


@contextmanager
def display(console: Console) -> Iterator[Display]:
    """A live display if the console is a terminal that can be redrawn, else one that prints plain lines."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainDisplay(console)
        return
    with LiveDisplay(console) as live:
        yield live


class PlainDisplay(Display):
    """Lines for logs and pipes: one when a phase begins, then at most one every ten seconds."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._last = 0.0

    def _begun(self, pace: Pace) -> None:
        self._last = self._console.get_time()
        self.say(f"{pace.title} {pace.subject}".rstrip())

    def _moved(self, pace: Pace, detail: str) -> None:
        now = self._console.get_time()
        is_last = pace.is_done and pace.total > 0  # of a phase of unknown length no part is known to be the last
        if not is_last and now - self._last < LINE_EVERY:
            return
        self._last = now
        facts = ", ".join(part for part in (detail, pace.rate(), pace.time()) if part)
        parts = (pace.title, pace.subject, pace.count(), facts)
        self.say(" ".join(part for part in parts if part) + ("" if pace.is_done else self._of_all()))

    def _of_all(self) -> str:
        cells = self.whole.cells()
        return f"; {cells[0]} {', '.join(cell for cell in cells[1:] if cell)}" if cells else ""


class LiveDisplay(Display):
    """A row for the whole run and one for its phase; what has ended becomes a line above them."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._spinner, self._detail = Spinner("dots"), ""
        self._live = Live(console=console, refresh_per_second=REDRAWN, transient=True, get_renderable=self.rows)

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._live.stop()

    def rows(self) -> RenderableType:
        """What is redrawn."""
        pace, width = self._pace, self._console.width
        if pace is None:
            return Group()
        whole = run_row(self.whole, width)
        running = phase_row(pace, self._detail, width, self._spinner)
        return Group(*(each for each in (whole, running) if each is not None))

    def picture(self, path: Path, line: str) -> None:
        """Print a line above the rows, which continue, and the picture after it."""
        super().picture(path, line)
        if protocol := protocol_of(os.environ):
            with suppress(OSError):  # it existed a moment ago; a file that is gone is not shown
                self._console.print(TerminalPicture(path.read_bytes(), protocol), crop=False)

    def _begun(self, pace: Pace) -> None:  # noqa: ARG002 - it is drawn from `rows`
        self._detail = ""
        self._live.refresh()

    def _moved(self, pace: Pace, detail: str) -> None:  # noqa: ARG002 - it is drawn from `rows`
        self._detail = detail

    def _ended(self, pace: Pace) -> None:
        if pace.total or pace.took >= WORTH_A_LINE:
            self.say(pace.result())
