"""Keeps a run: resumes it, saves it after every step, and removes its folder when the video is finished.

The video matters more than the saved state. A state that cannot be saved is reported once, and the run continues;
every later step tries again.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol, Self

from holo_lite.errors import OutputError, RunError
from holo_lite.events import Event, GoingOn, NotSaved
from holo_lite.plan.ladder import is_out_of_memory
from holo_lite.plan.plan import Plan, plan_record
from holo_lite.runs.folder import RunFolder
from holo_lite.runs.record import Record, changes, difference
from holo_lite.runs.state import State
from holo_lite.runs.state_facts import StoredCache
from holo_lite.settings import RunSettings

RANKS = "ranks"  # of the circumstances: who else computed
logger = logging.getLogger(__name__)


class Keeper(Protocol):
    """Saves and resumes a run; a context manager around it. `begin` and `save` give events for the caller."""

    def take(self) -> State | None:
        """The state from which the run resumes; None if it begins. It is given once: it takes memory."""

    def begin(self) -> Iterator[Event]:
        """The run begins, or resumes."""

    def save(self, state: State) -> Iterator[Event]:
        """A step is done."""

    def finish(self) -> None:
        """The video is there."""

    def __enter__(self) -> Self:
        """Enter."""

    def __exit__(self, *_: object) -> None:
        """The run ends, one way or another."""


class NoKeeper:
    """Keeps nothing."""

    def take(self) -> State | None:
        """Every run begins."""

    def begin(self) -> Iterator[Event]:
        """Nothing is there."""
        return iter(())

    def save(self, _: State) -> Iterator[Event]:
        """Nothing is saved."""
        return iter(())

    def finish(self) -> None:
        """Nothing is cleared away."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@dataclass
class FolderKeeper:
    """Keeps a run in its folder. `keep` leaves it there when the video is finished."""

    folder: RunFolder
    record: Record
    keep: bool = False
    state: State | None = None
    stored: StoredCache | None = None
    changes: tuple[str, ...] = ()
    saved: int = 0  # the last step saved in the folder
    warned: bool = field(default=False, init=False)
    hold: ExitStack = field(default_factory=ExitStack, init=False)

    @classmethod
    def take_up(cls, folder: RunFolder, record: Record, *, keep: bool) -> FolderKeeper:
        """Resume the run in the folder, or begin one there.

        `record` is the run wanted now. Raises `RunError` if the folder's run is damaged or a different one, or
        while another process holds it; a run without a finished step is begun again.
        """
        with folder.held():  # or another process may be writing what is read here
            if folder.record() is None or not folder.has_state:
                return cls(folder, record, keep)
            found = folder.begun()
            refuse_another(folder, found.settings, record.settings)
            state, stored = folder.state() or (None, None)
        assert state is not None, "it was there a moment ago"
        changed = changes(state.circumstances, record.circumstances)
        adopted = _adopted(found, record, state, changed)
        return cls(folder, adopted, keep, state, stored, tuple(changed), state.done)

    def take(self) -> State | None:
        """The state of the run, given once."""
        state, self.state = self.state, None
        return state

    def begin(self) -> Iterator[Event]:
        """Write the record of a new run, or report where the run resumes."""
        if self.state is None:
            yield from self._try(lambda: self.folder.begin(self.record))
            return
        changed = "; ".join(self.changes) or "nothing changed"
        logger.info("%s: continuing after step %d (%s)", self.folder.path, self.state.done, changed)
        yield GoingOn(self.folder.path, self.state.done, self.record.settings.steps, self.changes)

    def save(self, state: State) -> Iterator[Event]:
        """Save the state of the run, in place of the previous one."""
        yield from self._try(lambda: self._save(state))

    def finish(self) -> None:
        """Remove the folder, unless it is to be kept."""
        if not self.keep:
            self.folder.remove()

    def __enter__(self) -> Self:
        """Hold the folder. Raises `RunError` while another process does."""
        self.hold.enter_context(self.folder.held())
        return self

    def __exit__(self, *_: object) -> None:
        """A run without a step leaves nothing behind."""
        with self.hold:
            if not self.folder.has_state:
                self.folder.remove()

    def _save(self, state: State) -> None:
        if not self.folder.is_begun:
            self.folder.begin(self.record)
            self.stored = None
        made = self.record.settings.made_with
        made_now = dataclasses.replace(state, made_with=made, circumstances=self.record.circumstances)
        self.stored = self.folder.save(made_now, self.stored)
        self.saved = state.done
        logger.debug("%s: step %d is saved", self.folder.path, state.done)

    def _try(self, write: Callable[[], None]) -> Iterator[Event]:
        try:
            write()
            return
        except OutputError as error:
            why = str(error)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            why = f"{self.folder.path}: there is no memory to write it with"
        if not self.warned:
            self.warned = True
            yield NotSaved(why, self.saved)


def refuse_another(folder: RunFolder, found: RunSettings, wanted: RunSettings) -> None:
    """Raise `RunError` if the video wanted differs from the one that was begun in a folder."""
    apart = difference(found, wanted)
    if apart:
        raise RunError(
            f"{folder.path}: contains an unfinished run with other settings ({'; '.join(apart)}); "
            "resume it, delete the folder, or choose another --out"
        )


def refuse_another_model(folder: RunFolder, found: RunSettings, opened: RunSettings) -> None:
    """Raise `RunError` where a run's settings are not possible with the model that is open."""
    apart = difference(found, opened)
    if apart:
        raise RunError(f"{folder.path}: was begun with another model ({'; '.join(apart)}); give that model")


def _adopted(found: Record, wanted: Record, state: State, changed: list[str]) -> Record:
    """The record of a resumed run: as it was begun, with the plan of its last step where possible."""
    made_with, plan = state.made_with, _plan(found, wanted, state)
    if changed:
        made_with += f"; after step {state.done}: {', '.join(changed)}"
    now = wanted.settings
    settings = dataclasses.replace(
        found.settings, made_with=made_with, device=now.device, computing=now.computing, plan=plan_record(plan)
    )
    return dataclasses.replace(wanted, settings=settings, plan=plan)


def _plan(found: Record, wanted: Record, state: State) -> Plan:
    """The plan of the last step; another one, with the same past, for another device or a profile named for it."""
    if not _asks_for_another_plan(found, wanted, state):
        return dataclasses.replace(state.plan, budget=wanted.plan.budget)  # what is free is free now
    return dataclasses.replace(wanted.plan, rungs=state.plan.rungs, skipped=state.plan.skipped)


def _asks_for_another_plan(found: Record, wanted: Record, state: State) -> bool:
    """Whether the run resumes on another device, or with a profile given for it."""
    if any(state.circumstances.get(name) != wanted.circumstances.get(name) for name in ("device", RANKS)):
        return True
    return wanted.opening.profile not in {"auto", found.opening.profile}
