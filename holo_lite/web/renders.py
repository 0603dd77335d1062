"""The queue: as many videos at a time as there are devices to render on, and the others wait.

Whatever happens to a process that renders, a record follows: a job that was cancelled keeps its finished steps, one
whose process died has failed and says so, and the next one starts a new process.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from holo_lite.errors import OutputError
from holo_lite.web.book import ENDED, JobBook, JobEntry, State, now
from holo_lite.web.job_records import disk, job_record, seconds_left
from holo_lite.web.lane import AUTO, Place, Renderer, RenderLane, Wish
from holo_lite.web.progress import RunProgress
from holo_lite.worker.client import Hear, Record

Tell = Callable[[str, Record], None]  # a key, and the whole record
RUN_SUFFIX = ".run"  # of the folder beside a video in which a run is saved


class RenderQueue:
    """Jobs, and the lanes that make them, one for each of the `devices`.

    tell: whom to tell; ended: called with a video that is there or has changed.
    """

    def __init__(
        self,
        book: JobBook,
        folder: Path,
        renderer: Callable[[Hear], Renderer],
        tell: Tell,
        ended: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        devices: Sequence[Place] = (AUTO,),
    ) -> None:
        self._book, self._folder, self._tell, self._ended, self._clock = book, folder, tell, ended, clock
        self._lanes = tuple(RenderLane(place, renderer, self._hear) for place in devices)
        self._lock = threading.RLock()
        self.held = False
        self._closed = False

    def folder_of(self, job: str) -> Path:
        """Where the files of a job are that are not the video's."""
        return self._folder / job

    @property
    def is_busy(self) -> bool:
        """Whether a video is being made, which takes memory that the next one will have."""
        return any(lane.job is not None for lane in self._lanes)

    def add(self, entry: JobEntry) -> Record:
        """Put a job at the end of the queue, and begin if a lane is free."""
        with self._lock:
            entry = self._book.add(entry)
            self._say(entry.id)
            self.next()
            return self.record(entry.id)

    def next(self) -> None:
        """Begin the first jobs that wait on the lanes that are free, unless the queue is held."""
        with self._lock:
            for lane in self._lanes:
                waiting = next((each for each in self._book.all() if each.state == "waiting"), None)
                if lane.job is not None or waiting is None or self.held or self._closed:
                    continue
                self._book.update(waiting.id, state="running", why="", began=waiting.began or now())
                lane.begin(waiting, RunProgress(self._clock))
                self._say(waiting.id)

    def cancel(self, job: str, wish: Wish = "cancelled") -> None:
        """Cancel a job, or have it pause; its finished steps stay. Asked twice, its process is ended at once."""
        with self._lock:
            entry, lane = self._book.get(job), self._lane(job)
            if entry is None or entry.state in ENDED:
                return
            self._book.update(job, state=wish if lane is None else "stopping")
            if lane is not None:
                lane.leave(wish)
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
            if entry is None or self._lane(job) is not None:
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
        """End the processes after their blocks; what they did waits for the next start."""
        with self._lock:
            self._closed = True
        for lane in self._lanes:
            lane.stop()

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
                "running": next((lane.job for lane in self._lanes if lane.job is not None), None),
                "held": self.held,
                "left": seconds_left(entries, self._live(), self._book.pace(), len(self._lanes)),
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

    def _lane(self, job: str) -> RenderLane | None:
        """The lane that makes a job."""
        return next((lane for lane in self._lanes if lane.job == job), None)

    def _live(self) -> dict[str, RunProgress]:
        """How far each job is that is made."""
        return {lane.job: lane.live for lane in self._lanes if lane.job is not None and lane.live is not None}

    def _hear(self, lane: RenderLane, record: Record) -> None:
        """Take what a process tells, from its reader's thread."""
        with self._lock:
            if record["kind"] == "gone":
                self._gone(lane, record)
            elif lane.job is not None and record.get("order") == lane.job:
                self._take(lane, lane.job, record)

    def _take(self, lane: RenderLane, job: str, record: Record) -> None:
        assert lane.live is not None, "a job that runs has a progress"
        if record["kind"] == "ended":
            self._end(lane, record)
            return
        if record["kind"] == "preview":
            lane.live.preview = self._kept_preview(job, Path(record["path"]), record["done"])
            lane.live.shots = _captions(Path(record["path"]))
        lane.live.take(record)
        self._say(job)

    def _end(self, lane: RenderLane, record: Record) -> None:
        ends: dict[str, State] = {"done": "done", "there": "done", "failed": "failed"}
        state = ends.get(record["state"], "waiting" if self._closed else lane.wish or "cancelled")
        self._finish(lane, state, record["why"] if state == "failed" else "")

    def _finish(self, lane: RenderLane, state: State, why: str) -> None:
        job, live = lane.job, lane.live
        assert job is not None, "a job ends"
        took = {"seconds": live.elapsed} if live is not None and state == "done" else {}
        self._book.update(job, state=state, why=why, **took)
        lane.free()
        self._say(job)
        self._ended()
        self.next()

    def _gone(self, lane: RenderLane, record: Record) -> None:
        """A process is gone, asked to or not."""
        if lane.job is None:
            return
        if self._closed:
            self._finish(lane, "waiting", "")
        elif lane.wish is not None:
            self._finish(lane, lane.wish, "")
        else:
            self._finish(lane, "failed", _why_gone(record))

    def _kept_preview(self, job: str, path: Path, done: int) -> str | None:
        """Keep a preview under a name of its own: the next one is written over this one.

        The one before stays, too: a page that was told of it may ask for it only now.
        """
        folder = self.folder_of(job)
        kept, coming = folder / f"preview-{done:04}.png", folder / "coming.png"
        with suppress(OSError):
            shutil.copyfile(path, coming)
            coming.replace(kept)
            earlier = sorted(each for each in folder.glob("preview-*.png") if each.name < kept.name)
            for old in earlier[:-1]:
                old.unlink()
        return f"/jobs/{job}/{kept.stem}" if kept.is_file() else None

    def _say(self, job: str) -> None:
        self._tell("job", self.record(job))
        self._say_queue()

    def _say_queue(self) -> None:
        self._tell("queue", self.queue())

    def _record(self, entry: JobEntry) -> Record:
        return job_record(entry, self._live().get(entry.id), self.pictures(entry.id))


def _captions(preview: Path) -> list[str]:
    """Those of the shots that a preview shows; none where it cannot be read just now."""
    from holo_lite.film.marks import read_shots

    with suppress(OutputError):
        return [each.caption for each in read_shots(preview)]
    return []


def _why_gone(record: Record) -> str:
    said = str(record.get("said") or "").strip().splitlines()
    last = f" ({said[-1][:160]})" if said else ""
    return f"the render process ended by itself, exit code {record.get('code')}{last}; its finished steps are saved"
