"""The queue: one video at a time is made by the process that renders, and the others wait.

Whatever happens to that process, a record follows: a job that was cancelled keeps its finished steps, one whose
process died has failed and says so, and the next one starts a new process.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from holo_lite.web.book import ENDED, JobBook, JobEntry, State, now
from holo_lite.web.job_records import disk, job_record, seconds_left
from holo_lite.web.progress import RunProgress
from holo_lite.worker.client import Hear, Record

Tell = Callable[[str, Record], None]  # a key, and the whole record
Wish = Literal["cancelled", "paused"]
RUN_SUFFIX = ".run"  # of the folder beside a video in which a run is saved


class Renderer(Protocol):
    """The process that renders, as the queue needs it."""

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""

    def start(self) -> None:
        """Start it."""

    def make(self, name: str, order: dict[str, Any]) -> None:
        """Ask for a video."""

    def cancel(self, name: str) -> None:
        """Ask for one to be cancelled."""

    def stop(self) -> None:
        """Have it end after its block."""

    def kill(self) -> None:
        """End it at once."""


class RenderQueue:
    """Jobs, of which one is made. tell: whom to tell; ended: called with a video that is there or has changed."""

    def __init__(
        self,
        book: JobBook,
        folder: Path,
        renderer: Callable[[Hear], Renderer],
        tell: Tell,
        ended: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book, self._folder, self._tell, self._ended, self._clock = book, folder, tell, ended, clock
        self._make_renderer = renderer
        self._renderer: Renderer | None = None
        self._lock = threading.RLock()
        self._running: str | None = None
        self._live: RunProgress | None = None
        self._wish: Wish | None = None
        self.held = False
        self._closed = False

    def folder_of(self, job: str) -> Path:
        """Where the files of a job are that are not the video's."""
        return self._folder / job

    def add(self, entry: JobEntry) -> Record:
        """Put a job at the end of the queue, and begin if nothing runs."""
        with self._lock:
            entry = self._book.add(entry)
            self._say(entry.id)
            self.next()
            return self.record(entry.id)

    def next(self) -> None:
        """Begin the first job that waits, unless one runs or the queue is held."""
        with self._lock:
            if self._running is not None or self.held or self._closed:
                return
            waiting = next((each for each in self._book.all() if each.state == "waiting"), None)
            if waiting is None:
                return
            self._running, self._wish, self._live = waiting.id, None, RunProgress(self._clock)
            self._book.update(waiting.id, state="running", why="", began=waiting.began or now())
            if self._renderer is None or not self._renderer.is_alive:
                self._renderer = self._make_renderer(self.hear)
                self._renderer.start()
            self._renderer.make(waiting.id, waiting.order)
            self._say(waiting.id)

    def cancel(self, job: str, wish: Wish = "cancelled") -> None:
        """Cancel a job, or have it pause; its finished steps stay. Asked twice, its process is ended at once."""
        with self._lock:
            entry = self._book.get(job)
            if entry is None or entry.state in ENDED:
                return
            if job != self._running:
                self._book.update(job, state=wish)
            elif self._wish is None:
                self._wish = wish
                self._book.update(job, state="stopping")
                assert self._renderer is not None, "a job that runs has a process"
                self._renderer.cancel(job)
            else:
                self._wish = wish
                threading.Thread(
                    target=self._kill, daemon=True
                ).start()  # it waits for the reader, which waits for us
            self._say(job)

    def resume(self, job: str) -> None:
        """Have a job that paused, failed or was cancelled wait again; it goes on from its last saved step."""
        with self._lock:
            entry = self._book.get(job)
            if entry is not None and entry.state in {"paused", "failed", "cancelled"}:
                self._book.update(job, state="waiting", why="")
                self._say(job)
                self.next()

    def move(self, job: str, where: Literal["first", "up", "down"]) -> None:
        """Move a job among those that wait."""
        with self._lock:
            self._book.move(job, where)
            self._say_queue()

    def remove(self, job: str) -> None:
        """Forget a job that does not run; of an unfinished video nothing stays, a finished one is left alone."""
        with self._lock:
            entry = self._book.get(job)
            if entry is None or job == self._running:
                return
            self._book.remove(job)
            shutil.rmtree(self.folder_of(job), ignore_errors=True)
            if entry.state != "done":
                shutil.rmtree(f"{entry.order['out']}{RUN_SUFFIX}", ignore_errors=True)
            self._tell("job_gone", {"id": job})
            self._say_queue()

    def hold(self, held: bool) -> None:
        """Begin no further job, or go on."""
        with self._lock:
            self.held = held
            self._say_queue()
            self.next()

    def close(self) -> None:
        """End the process after its block; what it did waits for the next start."""
        with self._lock:
            self._closed = True
            renderer = self._renderer
        if renderer is not None:
            renderer.stop()

    def hear(self, record: Record) -> None:
        """Take what the process tells, from its reader's thread."""
        with self._lock:
            job = record.get("order")
            if record["kind"] == "gone":
                self._gone(record)
            elif job is not None and job == self._running:
                self._take(job, record)

    def records(self) -> list[Record]:
        """Every job as the page has it."""
        with self._lock:
            return [self._record(entry) for entry in self._book.all()]

    def record(self, job: str) -> Record:
        """One job as the page has it."""
        with self._lock:
            entry = self._book.get(job)
            assert entry is not None, "a job that is told of is there"
            return self._record(entry)

    def queue(self) -> Record:
        """The queue as the page has it."""
        with self._lock:
            entries = self._book.all()
            return {
                "order": [entry.id for entry in entries],
                "running": self._running,
                "held": self.held,
                "left": seconds_left(entries, self._running, self._live, self._book.pace()),
                "disk": disk(entries, self._folder),
            }

    def pictures(self, job: str) -> dict[str, Path]:
        """The pictures of a job by the names in its addresses."""
        folder = self.folder_of(job)
        found = {path.stem: path for path in folder.glob("preview-*.png")} if folder.is_dir() else {}
        entry = self._book.get(job)
        if entry is not None:
            out = Path(entry.order["out"])
            found |= {"sheet": out.with_suffix(".png")}
            found |= {
                f"seed-{seed}": out.with_name(f"{out.stem}-{seed}.png") for seed in entry.order.get("seeds") or ()
            }
        return {name: path for name, path in found.items() if path.is_file()}

    def _kill(self) -> None:
        renderer = self._renderer
        if renderer is not None:
            renderer.kill()

    def _take(self, job: str, record: Record) -> None:
        assert self._live is not None, "a job that runs has a progress"
        if record["kind"] == "ended":
            self._end(job, record)
            return
        if record["kind"] == "preview":
            self._live.preview = self._kept_preview(job, Path(record["path"]), record["done"])
        self._live.take(record)
        self._say(job)

    def _end(self, job: str, record: Record) -> None:
        state: State = {"done": "done", "there": "done", "failed": "failed"}.get(record["state"], "cancelled")  # type: ignore[assignment]
        if record["state"] == "cancelled":
            state = "waiting" if self._closed else self._wish or "cancelled"
        self._finish(job, state, record["why"] if state == "failed" else "")

    def _finish(self, job: str, state: State, why: str) -> None:
        took = self._live.elapsed if self._live is not None and state == "done" else None
        self._book.update(job, state=state, why=why, **({"seconds": took} if took is not None else {}))
        self._running = self._live = self._wish = None
        self._say(job)
        self._ended()
        self.next()

    def _gone(self, record: Record) -> None:
        """The process is gone, asked to or not."""
        if self._running is None:
            return
        job = self._running
        if self._closed:
            self._finish(job, "waiting", "")
        elif self._wish is not None:
            self._finish(job, self._wish, "")
        else:
            self._finish(job, "failed", _why_gone(record))

    def _kept_preview(self, job: str, path: Path, done: int) -> str | None:
        """Keep a preview under a name of its own: the next one is written over this one."""
        folder = self.folder_of(job)
        kept = folder / f"preview-{done:04}.png"
        with suppress(OSError):
            shutil.copyfile(path, kept)
            for old in folder.glob("preview-*.png"):
                if old.name < kept.name:
                    old.unlink()
        return f"/jobs/{job}/{kept.stem}" if kept.is_file() else None

    def _say(self, job: str) -> None:
        self._tell("job", self.record(job))
        self._say_queue()

    def _say_queue(self) -> None:
        self._tell("queue", self.queue())

    def _record(self, entry: JobEntry) -> Record:
        live = self._live if entry.id == self._running else None
        return job_record(entry, live, self.pictures(entry.id))


def _why_gone(record: Record) -> str:
    said = str(record.get("said") or "").strip().splitlines()
    last = f" ({said[-1][:160]})" if said else ""
    return f"the render process ended by itself, exit code {record.get('code')}{last}; its finished steps are saved"
