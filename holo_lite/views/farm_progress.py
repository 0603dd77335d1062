"""How far the clips of a farm are, and how long all of them will take, from the records that their runs send."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from holo_lite.farm.events import ClipBegun, Record
from holo_lite.views.whole import ORDER


@dataclass
class ClipPart:
    """How much of one clip is done, from 0 to 1, by the work that each phase has."""

    work: float
    phases: Mapping[str, float] = field(default_factory=dict)
    phase: str = ""
    total: int = 0
    done: int = 0
    first: float | None = None  # what was done before its card began

    def hear(self, record: Record) -> None:
        """Take a record of its run."""
        match record["kind"]:
            case "resolved":
                self.phases = record["work"]
            case "phase":
                self.phase, self.total, self.done = record["phase"], record["total"], record["done"]
                if self.phase == "denoise" and self.first is None:
                    self.first = self.part
            case "step" | "frame" | "advance":
                self.done = record["done"]

    @property
    def part(self) -> float:
        """Of the whole clip."""
        everything = sum(self.phases.values())
        if self.phase not in ORDER or not everything:
            return 0.0
        before = sum(self.phases.get(phase, 0.0) for phase in ORDER[: ORDER.index(self.phase)])
        running = self.phases.get(self.phase, 0.0) * (self.done / self.total if self.total else 0.0)
        return (before + running) / everything

    @property
    def fresh(self) -> float:
        """The work that its card has done."""
        return self.work * max(0.0, self.part - (self.first or 0.0))


@dataclass
class FarmProgress:
    """All clips of a farm; `now` is the clock. Each is known by the name of its place while it is made."""

    now: Callable[[], float]
    ended: int = 0
    total: int = 0
    rest: float = 0.0
    running: dict[str, ClipPart] = field(default_factory=dict)
    _done: float = 0.0  # work that was done since the first clip began, on places that are free again
    _began: float | None = None

    def begin(self, event: ClipBegun) -> None:
        """A clip is begun on a place."""
        self._began = self.now() if self._began is None else self._began
        self.total, self.rest = event.total, event.rest
        self.running[event.place] = ClipPart(event.work)

    def end(self, place: str, *, whole: bool) -> None:
        """A place is free: its clip is finished, or lost."""
        part = self.running.pop(place, None)
        if part is None:
            return
        self._done += part.work * (1 - (part.first or 0.0)) if whole else part.fresh
        self.ended += whole
        self.rest += 0.0 if whole else part.work - part.fresh

    def left(self) -> float | None:
        """Seconds until all clips are made, if all cards go on as they did; None: nobody can say yet."""
        done = self._done + sum(part.fresh for part in self.running.values())
        if self._began is None or done <= 0:
            return None
        ahead = self.rest + sum(part.work * (1 - part.part) for part in self.running.values())
        return ahead * (self.now() - self._began) / done
