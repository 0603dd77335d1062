"""The one draft that is edited: its history for undo, and its place on the disk, from which a restart goes on."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from holo_lite.errors import HoloError, OutputError
from holo_lite.reading.files import read_bytes
from holo_lite.system.whole_files import write_whole
from holo_lite.web.draft import DRAFT, Draft, empty_draft
from holo_lite.web.editing import Said, edited, text_key

MOST_STEPS = 300
ONE_GO = 3.0  # seconds within which typing in one field is one step


class Board:
    """A draft, what it was before, and where it is kept. Not for several threads at once."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self.draft = _kept(path) or empty_draft()
        self.rev = 1
        self.saved: Draft | None = None
        self._before: list[Draft] = []
        self._after: list[Draft] = []
        self._typed: tuple[str | None, float] = (None, 0.0)

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._before)

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back."""
        return bool(self._after)

    @property
    def is_changed(self) -> bool:
        """Whether something would be lost if another storyboard were opened."""
        return self.draft != (self.saved or dataclasses.replace(empty_draft(), file=self.draft.file))

    def do(self, said: Said) -> None:
        """Carry out an operation, undo and redo included. Raises `SettingsError`."""
        match said.get("op"):
            case "undo":
                self._step(self._before, self._after)
            case "redo":
                self._step(self._after, self._before)
            case _:
                self._take(edited(self.draft, said), text_key(said))

    def put(self, draft: Draft, *, saved: bool = False) -> None:
        """Another draft in its place; it can be undone. saved: it is what its file holds."""
        self._take(draft, None)
        if saved:
            self.saved = self.draft

    def mark_saved(self, file: str) -> None:
        """It was written to a file."""
        self.draft = self.saved = dataclasses.replace(self.draft, file=file)
        self._keep()

    def _take(self, draft: Draft, key: str | None) -> None:
        if draft == self.draft:
            return
        last, when = self._typed
        now = self._clock()
        if key is None or key != last or now - when > ONE_GO or not self._before:
            self._before = [*self._before, self.draft][-MOST_STEPS:]
        self._typed, self._after = (key, now), []
        self.draft = draft
        self._keep()

    def _step(self, source: list[Draft], other: list[Draft]) -> None:
        if source:
            other.append(self.draft)
            self.draft = source.pop()
            self._typed = (None, 0.0)
            self._keep()

    def _keep(self) -> None:
        """Write it at once: it is small, and a server may be killed at any moment. Raises `OutputError`."""
        self.rev += 1
        try:
            write_whole(self._path, DRAFT.write(self.draft).encode())
        except OSError as error:
            raise OutputError(
                f"{self._path}: the draft cannot be kept ({error.strerror}); free some space"
            ) from error


def _kept(path: Path) -> Draft | None:
    """The draft as it was left; None where there is none, or it cannot be read."""
    try:
        return DRAFT.read(read_bytes(path))
    except (OSError, HoloError):
        return None
