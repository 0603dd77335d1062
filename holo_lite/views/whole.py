"""How far a whole run is, and of several runs, how long all of them will take.

Phases differ in length by what the plan says of their work; how long that takes is measured as it is done. Each
phase has a speed of its own: until it has one, it is taken to be as fast as the phase before it. Nothing is said
before the first step, when nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from holo_lite.progress import Phase
from holo_lite.system.units import duration_text
from holo_lite.views.pace import Pace

ORDER: tuple[Phase, ...] = ("text", "denoise", "decode")


@dataclass
class WholeRun:
    """The run that is on, `now` being the clock.

    `number` of `count` runs, where there are several; `share` is its part of all their work, `rest` that of those
    after it. `work` is how many operations each phase has; `guided` how many steps are guided, 0 if all are alike.
    """

    now: Callable[[], float]
    number: int = 1
    count: int = 1
    share: float = 0.0
    rest: float = 0.0
    work: Mapping[Phase, float] = field(default_factory=dict)
    guided: int = 0
    _began: float = 0.0
    _phase: Phase | None = None
    _pace: Pace | None = None
    _each: float | None = None  # seconds an operation, as last measured
    _earlier: float = 0.0  # operations done in an earlier session
    _shown: float = 0.0
    _finished: tuple[float, float] = (0.0, 0.0)  # seconds and share of the runs that are finished

    @property
    def is_one_of_several(self) -> bool:
        """Whether other runs come before it or after it."""
        return self.count > 1

    def item(self, number: int, count: int, share: float, rest: float) -> None:
        """The next of several runs begins."""
        self.end()
        self.number, self.count, self.share, self.rest = number, count, share, rest

    def begin(self, work: Mapping[Phase, float], guided: int = 0) -> None:
        """A run begins, of that much work."""
        self.work, self.guided, self._began = work, guided, self.now()
        self._phase, self._pace, self._each, self._earlier, self._shown = None, None, None, 0.0, 0.0

    def phase(self, phase: Phase, pace: Pace) -> None:
        """A phase of it begins."""
        self.measure()
        self._phase, self._pace = phase, pace
        done = pace.task.completed / pace.work if pace.work else 0.0
        self._earlier = max(self._earlier, done * self.work.get(phase, 0.0))

    def measure(self) -> None:
        """Take the speed of the running phase, if it has one by now."""
        work = self.work.get(self._phase, 0.0) if self._phase else 0.0
        speed = self._pace.speed() if self._pace else None
        if self._pace and speed and work:
            self._each = self._pace.work / speed / work

    def finish(self) -> None:
        """The run is finished: the time of those after it follows from what it took."""
        seconds, share = self._finished
        self._finished = seconds + self.now() - self._began, share + self.share
        self.end()

    def end(self) -> None:
        """No run is on."""
        self.work = {}
        self._phase = self._pace = self._each = None

    def left(self) -> float | None:
        """Seconds until the run is finished."""
        if self._each is None or not self.work:
            return None
        last = self._phase if self._phase in ORDER else "denoise"  # what is loaded is loaded after it
        later = sum(self.work[phase] for phase in ORDER[ORDER.index(last) + 1 :])
        running = self._pace.left() if self._pace and self._phase in ORDER else None
        if running is None:
            running = self.work[last] * self._each if self._phase == "decode" else 0.0
        return running + later * self._each

    def left_of_all(self) -> float | None:
        """Seconds until the last of several runs is finished."""
        left = self.left()
        if left is None or not self.share:
            return None
        seconds, share = self._finished
        taken = seconds + self.now() - self._began + left
        return left + self.rest * taken / (share + self.share)

    def part(self) -> float | None:
        """What part of the run is done, from 0 to 1, in time; it never shrinks."""
        left = self.left()
        if left is None or self._each is None:
            return None
        spent = self.now() - self._began + self._earlier * self._each
        self._shown = max(self._shown, spent / max(spent + left, 1e-9))
        return self._shown

    def cells(self) -> tuple[str, str, str, str] | None:
        """What to say of it: its name, its part, how long it has left, and all of several; None: nothing yet."""
        part, left, everything = self.part(), self.left(), self.left_of_all()
        if part is None or left is None:
            return None
        name = f"video {self.number} of {self.count}" if self.is_one_of_several else "whole run"
        several = self.is_one_of_several and everything is not None
        return (
            name,
            f"{100 * part:.0f} %",
            f"about {duration_text(left)} left",
            f"{duration_text(everything)} for all" if several and everything is not None else "",
        )
