"""The folder of a run: next to the video, while it is made.

    lighthouse.mp4.run/run.json             what was begun, written first
    lighthouse.mp4.run/state.safetensors    its state after the last step
    lighthouse.mp4.run/lock                 held by the process that works on it

A run without a finished step is worth nothing, and its folder may be removed. Other files in the folder are not
ours and stay.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from holo_lite.errors import LaterRecordError, OutputError, RecordError, RunError
from holo_lite.reading.files import read_bytes
from holo_lite.runs.damage import damaged
from holo_lite.runs.folder_names import LOCK, RECORD
from holo_lite.runs.record import Record
from holo_lite.runs.state import State, read_state, write_state
from holo_lite.runs.state_facts import CACHES, STATE, StoredCache, check_record, named_cache
from holo_lite.system.folder_lock import holding
from holo_lite.system.outputs import PARTIAL, write_output, writing
from holo_lite.system.whole_files import sync_folder

SUFFIX = ".run"
OWN = (RECORD, STATE, CACHES, *(name + PARTIAL for name in (RECORD, STATE, CACHES)))


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, there or not yet."""

    path: Path

    @classmethod
    def beside(cls, video: Path) -> RunFolder:
        """The folder of the run that makes a video."""
        return cls(video.parent / f"{video.name}{SUFFIX}")

    @classmethod
    def named(cls, path: Path) -> RunFolder:
        """The folder at `path`, or next to the video of that name. Raises `RunError` where there is no run."""
        for folder in (cls(path), cls.beside(path)):
            if folder.is_begun:
                return folder
        mend = ", which is finished" if path.is_file() else "; name the video or its .run folder"
        raise RunError(f"{path}: no interrupted run found here or in {cls.beside(path).path.name}{mend}")

    @property
    def is_begun(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / RECORD).is_file()

    @property
    def has_state(self) -> bool:
        """Whether a step was finished and saved."""
        return (self.path / STATE).exists()

    def path_to(self, video: Path) -> str:
        """Where a video lies, seen from the folder: both can be moved together."""
        try:
            return os.path.relpath(video.absolute(), self.path.absolute())
        except ValueError:  # another drive of Windows
            return str(video.absolute())

    def video(self, record: Record) -> Path:
        """The video that a record says is made."""
        return Path(os.path.normpath(self.path / record.out))

    def begun(self) -> Record:
        """What was begun here.

        Raises `RunError` if nothing was, if the file is no such record, or another than its state belongs to: then
        no name in it is to be trusted.
        """
        record = self.record()
        if record is None:
            raise RunError(f"{self.path}: no interrupted run found here; check the name")
        return record

    def record(self) -> Record | None:
        """What was begun here; None if nothing was.

        Raises `RunError` for a file that is no such record, a later version's that must not run here, and for
        another than the state here belongs to, which is found before anything in it is read.
        """
        try:
            text = self._text()
            if self.has_state:
                check_record(self.path, hashlib.sha256(text).hexdigest())
            return Record.from_json(text)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except LaterRecordError as error:
            raise RunError(f"{self.path / RECORD}: {error}") from error
        except (OSError, RecordError) as error:
            raise damaged(self.path / RECORD, error) from error

    def begin(self, record: Record) -> None:
        """Write down what is begun, in place of a run that has no step. Raises `OutputError`."""
        self.remove()
        write_output(self.path / RECORD, record.to_json().encode("utf-8", "surrogatepass"))
        with writing(self.path):
            sync_folder(self.path.parent)  # or after a power cut the folder may be gone, and all of its states

    def state(self) -> tuple[State, StoredCache | None] | None:
        """The state of the run; None before its first step. Raises `RunError` for a damaged or foreign file."""
        return read_state(self.path, self._identity())

    def save(self, state: State, before: StoredCache | None) -> StoredCache | None:
        """Save a state in place of the previous one, whose cache is `before`. Raises `OutputError`."""
        try:
            with writing(self.path):
                stored = write_state(self.path, state, self._identity(), before)
                self._keep_cache(stored.file if stored else None)
        except OutputError:
            with suppress(RunError, OSError):  # a cache that no state names only takes room
                self._keep_cache(named_cache(self.path))
            raise
        return stored

    def _keep_cache(self, name: str | None) -> None:
        """Remove all caches but that of a name."""
        for cache in self.path.glob(CACHES):
            if cache.name != name:
                cache.unlink()

    def remove(self) -> None:
        """Remove all of the run, the record first, so that the rest is not a run. Failures are ignored."""
        for pattern in OWN:
            for path in self.path.glob(pattern):
                with suppress(OSError):
                    path.unlink()
        with suppress(OSError):
            self.path.rmdir()

    def held(self) -> AbstractContextManager[None]:
        """Hold the folder against other processes. Raises `RunError` while another holds it."""
        refusal = RunError(f"{self.path}: another process is making this video; wait for it, or stop it")
        return holding(self.path, LOCK, refusal)

    def _identity(self) -> str:
        """What ties a state to its record."""
        return hashlib.sha256(self._text()).hexdigest()

    def _text(self) -> bytes:
        return read_bytes(self.path / RECORD)
