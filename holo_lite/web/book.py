"""The jobs of a workspace in a small database: what is to be made, in which order, and how it ended.

What became of a video is decided by what is on the disk: a job that ran when the server was killed waits again, and
goes on from its last saved step, or is found to be done.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from holo_lite.errors import OutputError

Kind = Literal["full", "draft", "seeds", "retake", "extend"]
State = Literal["waiting", "running", "stopping", "paused", "done", "failed", "cancelled"]
ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled"})
VERSION = 1
TABLE = """
create table if not exists jobs (
    id text primary key, place real not null, kind text not null, title text not null, state text not null,
    why text not null, width integer not null, height integer not null, frames integer not null, fps real not null,
    steps integer not null, made_from text, began real, seconds real, job_order text not null
)
"""


@dataclass(frozen=True)
class JobEntry:
    """A job. order: what the process that renders is asked; made_from: a video's name; seconds: it took."""

    id: str
    place: float
    kind: Kind
    title: str
    state: State
    why: str
    width: int
    height: int
    frames: int
    fps: float
    steps: int
    made_from: str | None
    began: float | None
    seconds: float | None
    order: dict[str, Any]

    @property
    def work(self) -> float:
        """How much there is to do, to compare jobs by."""
        count = len(self.order.get("seeds") or ()) or 1
        return float(self.width * self.height * self.frames * self.steps * count)


class JobBook:
    """All jobs, in order. Usable from any thread."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.RLock()
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            version = self._database.execute("pragma user_version").fetchone()[0]
            if version not in {0, VERSION}:
                raise OutputError(f"{path}: was written by a later holo-lite; update holo-lite")
            self._database.execute(TABLE)
            self._database.execute(f"pragma user_version = {VERSION}")
            self._database.execute("update jobs set state = 'waiting' where state in ('running', 'stopping')")
        except sqlite3.DatabaseError as error:
            raise OutputError(
                f"{path}: cannot be used ({error}); move it away, and the queue begins anew"
            ) from error

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def all(self) -> list[JobEntry]:
        """Every job, in their order."""
        return self._found("select * from jobs order by place, id")

    def get(self, job: str) -> JobEntry | None:
        """A job by its id."""
        found = self._found("select * from jobs where id = ?", (job,))
        return found[0] if found else None

    def add(self, entry: JobEntry) -> JobEntry:
        """Put a job at the end. Returns it with its place."""
        with self._lock:
            last = self._database.execute("select coalesce(max(place), 0) from jobs").fetchone()[0]
            entry = dataclasses.replace(entry, place=last + 1.0)
            values = (*(getattr(entry, name) for name in _NAMES), json.dumps(entry.order))
            self._database.execute(f"insert into jobs values ({', '.join('?' * len(values))})", values)
        return entry

    def update(self, job: str, **fields: Any) -> None:
        """Change fields of a job."""
        assert fields.keys() <= set(_NAMES), f"fields of a job: {fields.keys()}"
        assigned = ", ".join(f"{name} = ?" for name in fields)
        with self._lock:
            self._database.execute(f"update jobs set {assigned} where id = ?", (*fields.values(), job))

    def remove(self, job: str) -> None:
        """Forget a job."""
        with self._lock:
            self._database.execute("delete from jobs where id = ?", (job,))

    def move(self, job: str, where: Literal["first", "up", "down"]) -> None:
        """Move a waiting job among those that wait."""
        with self._lock:
            waiting = [each for each in self.all() if each.state in {"waiting", "paused"}]
            names = [each.id for each in waiting]
            if job not in names:
                return
            at = names.index(job)
            to = {"first": 0, "up": max(at - 1, 0), "down": min(at + 1, len(names) - 1)}[where]
            names.insert(to, names.pop(at))
            for name, place in zip(names, sorted(each.place for each in waiting), strict=True):
                self.update(name, place=place)

    def pace(self) -> float | None:
        """Seconds a unit of work has taken so far, over the jobs that were done in full."""
        done = [each for each in self.all() if each.state == "done" and each.seconds]
        work = sum(each.work for each in done)
        return sum(each.seconds or 0.0 for each in done) / work if work else None

    def _found(self, words: str, values: Sequence[Any] = ()) -> list[JobEntry]:
        with self._lock:
            rows = self._database.execute(words, values).fetchall()
        return [JobEntry(**dict(zip(_NAMES, row, strict=False)), order=json.loads(row[-1])) for row in rows]


_NAMES = tuple(each.name for each in dataclasses.fields(JobEntry) if each.name != "order")


def now() -> float:
    """Seconds since 1970, for `began`."""
    return time.time()
