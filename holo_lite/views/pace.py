"""How far a phase is, how fast, and how long it has left: the one clock of bars and of plain lines.

Speed is rich's: that of the last parts, without the first, which loads and warms up. Until the second part is done
there is nothing else to go by, so there the first one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich import filesize
from rich.console import Console
from rich.progress import Progress, Task

from holo_lite.progress import Unit
from holo_lite.system.units import bytes_text, duration_text

Worth = Callable[[int], float]  # how much work the first so many parts are

# Seconds of the past that a speed is taken from; parts that take longer are averaged over the phase.
WINDOWS: Mapping[Unit, float] = {"bytes": 120.0, "frames": 120.0, "steps": 3600.0, "": 3600.0}


class Pace:
    """The progress of one phase, which begins now.

    `total` and `start` (what was done before the phase began) are parts, or bytes; without a total the phase is one
    part of unknown length. `worth` says how much work parts are where they are not alike.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        total: int = 0,
        start: int = 0,
        *,
        unit: Unit = "",
        subject: str = "",
        worth: Worth = float,
    ) -> None:
        self.title, self.subject, self.unit = title, subject, unit
        self.total, self.start, self.done = total, start, start
        self._worth, self._now = worth, console.get_time
        self._moved = self._now()
        self._progress = Progress(console=console, get_time=self._now, speed_estimate_period=WINDOWS[unit])
        self._id = self._progress.add_task(title, total=worth(total) or None, completed=worth(start))  # type: ignore[arg-type]

    @property
    def task(self) -> Task:
        """What rich's columns draw."""
        return self._progress.tasks[0]

    @property
    def is_done(self) -> bool:
        """Whether all parts are done; a phase of one part is once the next one begins."""
        return self.done >= self.total

    @property
    def work(self) -> float:
        """All work of the phase, in the unit of `speed`."""
        return self._worth(self.total)

    @property
    def took(self) -> float:
        """Seconds since the phase began."""
        return self.task.elapsed or 0.0

    def advance(self, done: int) -> None:
        """`done` parts are done by now."""
        self._progress.update(self._id, completed=self._worth(done))
        self.done, self._moved = done, self._now()

    def speed(self) -> float | None:
        """Work a second, where a part is done."""
        if self.task.speed:
            return self.task.speed
        fresh, seconds = (
            self._worth(self.done) - self._worth(self.start),
            self._moved - (self.task.start_time or 0.0),
        )
        return fresh / seconds if fresh > 0 and seconds > 0 else None

    def left(self) -> float | None:
        """Seconds until the phase is done; while a part is on its way, they pass."""
        speed = self.speed()
        if speed is None or not self.total:
            return None
        ahead, following = self.work - self._worth(self.done), self._worth(min(self.done + 1, self.total))
        part = following - self._worth(self.done)
        return ahead / speed - min(self._now() - self._moved, part / speed)

    def count(self) -> str:
        """For example ``3/8``, or ``1.20 GB of 7.73 GB``."""
        if self.unit == "bytes":
            return f"{bytes_text(self.done)} of {bytes_text(self.total)}"
        return f"{self.done}/{self.total}" if self.total else ""

    def rate(self) -> str:
        """For example ``12.3 s each``, ``4.0 a second`` or ``12.3 MB/s``; nothing before the first part."""
        speed = self.speed()
        if speed is None:
            return ""
        if self.unit == "bytes":
            return f"{filesize.decimal(round(speed))}/s" if speed >= 1 else ""
        each = (self._worth(self.done) - self._worth(self.done - 1)) / speed
        return f"{each:.1f} s each" if each >= 1 else f"{1 / each:.1f} a second"

    def time(self) -> str:
        """For example ``4:10 left``, ``took 8:20`` once all is done, or ``0:20 so far`` where nobody can say."""
        if self.total and self.is_done:
            return f"took {duration_text(self.took)}"
        left = self.left()
        return f"{duration_text(self.took)} so far" if left is None else f"{duration_text(left)} left"

    def result(self) -> str:
        """The phase on one line once it is done, such as ``denoising: 12 steps in 0:24``."""
        title = f"{self.title} {self.subject}".rstrip()
        return f"{title}{self._parts()} in {duration_text(self.took)}"

    def _parts(self) -> str:
        fresh = self.done - self.start
        if self.unit == "bytes":
            return f": {bytes_text(fresh)}"
        return f": {fresh} {self.unit[:-1] if fresh == 1 else self.unit}" if self.unit and self.total else ""
