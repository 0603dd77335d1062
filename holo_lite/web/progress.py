"""How far a run is, from the records of the process that renders: the same clock as the terminal's."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from holo_lite.progress import Phase
from holo_lite.views.pace import Pace
from holo_lite.views.whole import WholeRun
from holo_lite.worker.client import Record

KEPT_NOTES = 12


@dataclass
class RunProgress:
    """A run, or the drafts of several seeds, while it is on. `clock` is in seconds."""

    clock: Callable[[], float]
    phase: Phase | None = None
    unit: str = ""
    done: int = 0
    total: int = 0
    memory: dict[str, int] | None = None
    waited: float | None = None
    preview: str | None = None
    shots: list[str] = field(default_factory=list)  # captions of the preview's shots, in order
    finished: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _began: float = 0.0
    _whole: WholeRun = field(init=False)
    _pace: Pace | None = None

    def __post_init__(self) -> None:
        self._began, self._whole = self.clock(), WholeRun(self.clock)
        self._console = Console(file=io.StringIO(), get_time=self.clock)

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return self.clock() - self._began

    @property
    def left(self) -> float | None:
        """Seconds until all of it is done; None before anybody can say."""
        everything = self._whole.left_of_all()
        return self._whole.left() if everything is None else everything

    @property
    def share(self) -> float | None:
        """What part of all of it is done, in time."""
        left = self.left
        return None if left is None else self.elapsed / max(self.elapsed + left, 1e-9)

    def take(self, record: Record) -> None:
        """Take what the process told."""
        take = getattr(self, f"_{record.get('kind')}", None)
        if take is not None:
            take(record)

    def _item(self, record: Record) -> None:
        self._whole.item(record["number"], record["of"], record["share"], record["rest"])

    def _resolved(self, record: Record) -> None:
        settings = record["settings"]
        guided = round(settings["steps"] * settings["cfg_until"]) if settings["cfg"] != 1 else 0
        self._whole.begin(record["work"], guided if guided < settings["steps"] else 0)
        self._note(*record["notes"])

    def _going_on(self, record: Record) -> None:
        self._note(f"continued after step {record['done']} of {record['total']}", *record["changes"])

    def _phase(self, record: Record) -> None:
        self.phase, self.unit = record["phase"], record["unit"]
        self.done, self.total = record["done"], record["total"]
        self._pace = Pace(self._console, self.phase or "", self.total, self.done, unit=record["unit"])
        if self.phase is not None:
            self._whole.phase(self.phase, self._pace)

    def _step(self, record: Record) -> None:
        self._advance(record)
        if record["memory"] is not None:
            self.memory = {"used": record["memory"], "planned": record["planned"]}
        if record["seconds"]:
            self.waited = min(1.0, record["waited"] / record["seconds"])

    def _advance(self, record: Record) -> None:
        self.done = record["done"]
        if self._pace is not None:
            self._pace.advance(self.done)
            self._whole.measure()

    _frame = _advance

    def _note(self, *texts: Any) -> None:
        self.notes = [*self.notes, *(str(text) for text in texts if text)][-KEPT_NOTES:]

    def _smaller_plan(self, record: Record) -> None:
        self._note(f"memory ran out: continuing with {record['change']}")

    def _not_saved(self, record: Record) -> None:
        self._note(f"progress cannot be saved ({record['why']})")

    def _no_latents(self, record: Record) -> None:
        self._note(f"the latents are not kept ({record['why']})")

    def _finished(self, record: Record) -> None:
        self._whole.finish()
        if record["sheet"]:
            self.finished.append(record["sheet"])
