"""What a person sees of a farm: a row for each card that works and one for all; in a pipe or a log, plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner

from holo_lite.farm.events import (
    CardLost,
    CardOpened,
    CardRefused,
    ClipBegun,
    ClipTold,
    FarmEvent,
    MadeElsewhere,
    NoCardYet,
)
from holo_lite.jobs.items import ItemEnded
from holo_lite.system.units import duration_text
from holo_lite.views import batch
from holo_lite.views.display import LINE_EVERY, REDRAWN, Display
from holo_lite.views.farm_progress import FarmProgress
from holo_lite.views.pace import Pace
from holo_lite.views.phases import TITLES
from holo_lite.views.rows import Cell, row
from holo_lite.views.terminal import shown


@dataclass
class _Row:
    """A card that works: what it makes, and the phase that it is in."""

    video: Path
    said: float  # when a line was last said of it
    pace: Pace | None = None


class FarmView:
    """Lines for what happens; the progress between them is for those who build on it."""

    def __init__(self, console: Console) -> None:
        self._console, self._lines = console, Display(console)
        self._rows: dict[str, _Row] = {}
        self.progress = FarmProgress(console.get_time)

    def say(self, line: str) -> None:
        """Show a line that stays."""
        self._lines.say(line)

    def show(self, event: FarmEvent) -> None:
        """Show one event of the farm."""
        match event:
            case ClipBegun():
                self.progress.begin(event)
                self._rows[event.place] = _Row(event.item.video, said=self._console.get_time())
            case ClipTold():
                self._tell(event)
            case CardLost():
                self._end(event.place, whole=False)
            case ItemEnded():
                place = next((key for key, each in self._rows.items() if each.video == event.item.video), "")
                self._end(place, whole=event.state == "done")
        for line in _lines(event):
            self.say(line)

    def _end(self, place: str, *, whole: bool) -> None:
        self._rows.pop(place, None)
        self.progress.end(place, whole=whole)

    def _tell(self, event: ClipTold) -> None:
        work, part, record = self._rows.get(event.place), self.progress.running.get(event.place), event.record
        if work is None or part is None:
            return
        part.hear(record)
        if record["kind"] == "phase":
            work.pace = self._pace(record)
        elif record["kind"] in {"step", "frame", "advance"} and work.pace is not None:
            work.pace.advance(record["done"])
            self._moved(event.place, work, work.pace)

    def _pace(self, record: Any) -> Pace:
        title, unit = TITLES[record["phase"]], record["unit"]
        return Pace(self._console, shown(title), record["total"], record["done"], unit=unit)

    def _moved(self, place: str, work: _Row, pace: Pace) -> None:
        """Show how far a clip is."""

    def _all(self) -> str:
        """All clips, in few words."""
        left = self.progress.left()
        time = f", about {duration_text(left)} left" if left is not None else ""
        return f"{self.progress.ended} of {self.progress.total} videos{time}"


class PlainFarm(FarmView):
    """A line of each card at most every ten seconds."""

    def _moved(self, place: str, work: _Row, pace: Pace) -> None:
        now = self._console.get_time()
        if now - work.said < LINE_EVERY:
            return
        work.said = now
        facts = ", ".join(part for part in (pace.rate(), pace.time()) if part)
        self.say(f"{work.video}, on {place}: {pace.title} {pace.count()} {facts}; {self._all()}")


class LiveFarm(FarmView):
    """Rows that are redrawn."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._spinner = Spinner("dots")
        self._live = Live(console=console, refresh_per_second=REDRAWN, transient=True, get_renderable=self.rows)

    def __enter__(self) -> LiveFarm:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def rows(self) -> RenderableType:
        """What is redrawn: as many cards as there is room for, and all clips."""
        room, width = max(1, self._console.height - 2), self._console.width
        cards = [self._card(place, work, width) for place, work in list(self._rows.items())[:room]]
        if not cards:
            return Group()
        bar = ProgressBar(max(1, self.progress.total), self.progress.ended)
        return Group(*cards, row((Cell(0, self._all()), Cell(1, None)), bar, width))

    def _card(self, place: str, work: _Row, width: int) -> RenderableType:
        pace = work.pace
        first = (Cell(0, shown(work.video.name)), Cell(3, shown(place)))
        if pace is None:
            return row((*first, Cell(1, "beginning")), ProgressBar(), width, self._spinner)
        bar = ProgressBar(pace.task.total, pace.task.completed, pulse=pace.task.total is None)
        phase = (Cell(4, pace.title), Cell(5, None), Cell(1, pace.count()))
        return row((*first, *phase, Cell(2, pace.time()), Cell(6, pace.rate())), bar, width, self._spinner)


@contextmanager
def farm_view(console: Console) -> Iterator[FarmView]:
    """Rows if the console is a terminal that can be redrawn, else plain lines."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainFarm(console)
        return
    with LiveFarm(console) as live:
        yield live


def _lines(event: FarmEvent) -> Iterator[str]:
    match event:
        case CardOpened(place, card):
            yield f"{place}: ready ({card})"
        case CardRefused(place, why):
            yield f"{place}: is not used; {why}"
        case CardLost(place, why, item, saved):
            after = f" from step {saved}" if saved else ""
            what = f"; {item.video} goes on{after}" if item is not None else ""
            yield f"{place}: lost ({why}){what}"
        case NoCardYet(cards):
            yield f"all cards are taken by others ({cards}); waiting for one"
        case MadeElsewhere(item):
            yield f"{item.video}: somebody else is making it; it is looked at again"
        case ClipBegun(item, place, number, total):
            yield f"{number} of {total}: {item.video}, on {place}"
        case ClipTold(item, _, record):
            yield from (f"{item.video}: {line}" for line in _of_clip(record))
        case ItemEnded():
            yield batch.line(event)


def _of_clip(record: Any) -> Iterator[str]:
    """What of a clip's run is worth a line among many."""
    match record["kind"]:
        case "resolved":
            yield from (f"note: {note}" for note in record["notes"])
        case "going_on":
            yield f"continuing after step {record['done']} of {record['total']}"
        case "not_saved":
            yield f"warning: progress cannot be saved ({record['why']})"
        case "no_latents":
            yield f"warning: the video is whole, but its latents are not kept ({record['why']})"
        case "no_preview":
            yield f"note: the run continues without previews ({record['why']})"
        case "smaller_plan":
            yield f"memory ran out: continuing with {record['change']}"
