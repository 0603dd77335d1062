"""A workspace: one folder with its draft, its queue and its videos, and whoever looks at them.

It is what a page drives, and knows nothing of HTTP. Every change is told as a whole record; a page that comes late
or comes back gets all of them at once. Its own files are in one hidden folder; videos and storyboards are in the
open.
"""

from __future__ import annotations

import dataclasses
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from holo_lite.cancel import Cancel
from holo_lite.errors import HoloError, OutputError, SettingsError
from holo_lite.story.files import dump_toml, load_storyboard, parse_text
from holo_lite.system.file_names import is_device
from holo_lite.system.whole_files import write_whole
from holo_lite.web import shelf
from holo_lite.web.board import Board
from holo_lite.web.book import JobBook, JobEntry
from holo_lite.web.counting import Vocabulary
from holo_lite.web.draft import Draft
from holo_lite.web.editing import Said
from holo_lite.web.errands import Errands
from holo_lite.web.gallery import Gallery
from holo_lite.web.lane import AUTO, Place, Renderer, at_place
from holo_lite.web.listeners import Listeners
from holo_lite.web.look import look
from holo_lite.web.ordering import Orders, shots_again
from holo_lite.web.planning import EMPTY, Planning
from holo_lite.web.records import board_record, setup_record
from holo_lite.web.renders import RenderQueue
from holo_lite.web.shelf import ShelfItem
from holo_lite.web.storyboards import Shelves, draft_of, draft_of_run, saved_storyboard
from holo_lite.web.uploads import Uploads
from holo_lite.web.written import WritingProgress, written_board
from holo_lite.worker.client import Hear, Record, RenderProcess
from holo_lite.writing.endpoint import Endpoint

OWN = ".holo-lite"  # the folder of its own files
IDLE = 300  # seconds after which the model is let go that nobody renders with
GLANCE = 3.0  # seconds between two looks at the folder


class Workspace:
    """Usable from any thread. `models` are folders to offer besides those in the folder."""

    def __init__(
        self,
        folder: Path,
        models: Iterable[Path] = (),
        endpoint: Endpoint | None = None,
        renderer: Callable[[Hear], Renderer] | None = None,
        devices: Sequence[Place] = (AUTO,),
    ) -> None:
        self.folder, self._models, self._endpoint = folder.absolute(), tuple(models), endpoint
        self._written, self._writing = Cancel(), threading.Lock()
        self._progress: Record | None = None  # of the storyboard that is being written, or was last
        self._own = self.folder / OWN
        self._own.mkdir(parents=True, exist_ok=True)
        self.boot, self.listeners = secrets.token_hex(8), Listeners()
        self._lock = threading.RLock()
        self.uploads = Uploads(self._own / "pictures")
        self.book = JobBook(self._own / "jobs.sqlite3")
        self.gallery = Gallery(self.folder, self._own / "posters")
        self.gallery.look()
        self._board, self._vocabulary = Board(self._own / "draft.json"), Vocabulary()
        self._orders = Orders(self.folder, self._own / "jobs", self.book)
        self._planning, self._plan = Planning(self._planned, self._own / "plan.log"), dict(EMPTY)
        self._place = devices[0]  # for which is planned
        start = renderer or partial(RenderProcess, log=self._own / "render.log", idle=IDLE)
        tell, jobs = self.listeners.tell, self._own / "jobs"
        self.queue = RenderQueue(self.book, jobs, start, tell, self._glance_soon, devices=devices)
        self.errands = Errands(self.folder, self._tell_setup)
        self._closing, self._wake = threading.Event(), threading.Event()
        self._shelves = self._look_round()
        self._look = self._looked()

    def start(self) -> None:
        """Go on with what waits, plan the draft, and watch the folder."""
        threading.Thread(target=self._watch, daemon=True).start()
        self._ask_for_plan()
        self.queue.next()

    def close(self) -> None:
        """End everything: the render process after its block, and all streams at once."""
        self._closing.set()
        self._wake.set()
        self._written.cancel()
        self.listeners.close()
        self._planning.close()
        self.errands.close()
        self.queue.close()
        self.book.close()

    def snapshot(self) -> Record:
        """All records."""
        with self._lock:
            return {
                "boot": self.boot,
                "board": self.board(),
                "look": self._look,
                "plan": self._plan,
                "queue": self.queue.queue(),
                "jobs": self.queue.records(),
                "gallery": self.gallery.records(),
                "setup": self._setup(),
                "writing": self._progress,
            }

    def board(self) -> Record:
        """The draft as a page has it."""
        return board_record(self._board, self._shelves)

    def edit(self, said: Said) -> Record:
        """Carry out an operation on the draft. Raises `SettingsError`."""
        with self._lock:
            self._board.do(said)
            return self._changed()

    def open(self, said: Mapping[str, Any]) -> Record:
        """Open a video, a file of the folder, or a text as the draft. Raises the `HoloError` of what is wrong."""
        with self._lock:
            draft, file = self._opened(said)
            self._board.put(dataclasses.replace(draft, file=file), saved=file is not None)
            return self._changed()

    def save(self, name: str | None, *, overwrite: bool = False) -> Record:
        """Write the draft as a storyboard file. Raises `ThereError` for a file that it did not come from."""
        with self._lock:
            draft = self._board.draft
            stem = _file_name(name or draft.file or draft.title or "storyboard")
            path = self.folder / stem
            if path.exists() and not overwrite and stem != draft.file:
                raise ThereError(
                    f"{stem}: is there already, and may hold more than is shown here; choose another name"
                )
            if path.exists() and not overwrite and _has_comments(path):
                raise ThereError(
                    f"{stem}: has comments, which saving would lose; choose another name, or overwrite it"
                )
            try:
                write_whole(path, self.toml().encode())
            except OSError as error:
                raise OutputError(f"{stem}: cannot be written ({error.strerror}); free some space") from error
            self._board.mark_saved(stem)
            return self._changed()

    def toml(self) -> str:
        """The draft as TOML. Raises `StoryboardError` where it is not well formed."""
        with self._lock:
            return dump_toml(saved_storyboard(self._board.draft, self._shelves))

    def files(self) -> list[ShelfItem]:
        """Storyboard files of the folder."""
        return shelf.storyboards(self.folder)

    def order(self, said: Mapping[str, Any]) -> Record:
        """Put a job into the queue. Raises the `HoloError` of what is wrong with it."""
        with self._lock:
            self._shelves = self._look_round()
            draft, shelves = self._board.draft, self._shelves
            kind = said.get("kind")
            if kind in {"full", "draft", "seeds"}:
                count = said.get("count", 4)
                entry = self._orders.board(kind, draft, shelves, count if type(count) is int else 4)
                return self.queue.add(self._orders.write_storyboard(entry, draft, shelves))
            return self.queue.add(self._directed(kind, said, draft))

    def write(self, said: Mapping[str, Any]) -> Record:
        """Have the endpoint write a storyboard of an idea, which becomes the draft. Returns it, and what was found.

        Raises what writing raises.
        """
        if self._endpoint is None:
            raise SettingsError("no endpoint is known; start the page with --endpoint URL")
        if not self._writing.acquire(blocking=False):
            raise SettingsError("a storyboard is being written already; wait for it")
        try:
            with self._lock:
                model = self._shelves.model(self._board.draft)
                tokenizer = self._vocabulary.of(model)
            progress = WritingProgress(self._tell_writing)
            board = written_board(said, self._endpoint, tokenizer, self._written, progress)
            with self._lock:
                self._board.put(draft_of(board, model.defaults))
                return {"board": self._changed(), "writing": progress.record}
        finally:
            self._writing.release()

    def delete(self, video: str) -> None:
        """Move a video to the trash. Raises `OutputError`."""
        with self._lock:
            self.gallery.delete(self.gallery.get(video))
        self._glance_soon()

    def _directed(self, kind: Any, said: Mapping[str, Any], draft: Draft) -> JobEntry:
        video, shelves = self.gallery.get(str(said.get("video"))), self._shelves
        if kind == "retake":
            seed = said.get("seed")
            return self._orders.retake(
                video, shots_again(said.get("shots")), seed if type(seed) is int else None, draft, shelves
            )
        if kind == "extend":
            named = said.get("remember")
            remember = tuple(each for each in named if type(each) is int) if isinstance(named, list) else None
            entry = self._orders.extend(video, draft, shelves, remember)
            return self._orders.write_storyboard(entry, draft, shelves)
        raise SettingsError("kind: a job is full, draft, seeds, retake or extend")

    def _opened(self, said: Mapping[str, Any]) -> tuple[Draft, str | None]:
        """The draft of what is named, and the file that it may be saved to."""
        if isinstance(said.get("video"), str):
            video = self.gallery.get(said["video"])
            if video.settings is None:
                raise OutputError(f"{video.path.name}: carries no storyboard")
            return draft_of_run(video.settings, self._board.draft.settings.model, video.path.stem), None
        defaults = self._shelves.model(self._board.draft).defaults
        if isinstance(said.get("file"), str):
            item = shelf.pick(self.files(), said["file"], "file")
            assert item.path is not None, "files have paths"
            return draft_of(load_storyboard(item.path), defaults, item.path.stem), item.name
        text, name = said.get("text"), said.get("name")
        if not isinstance(text, str):
            raise SettingsError("nothing is named that could be opened")
        return draft_of(parse_text(text, name if isinstance(name, str) else "the text"), defaults), None

    def _setup(self) -> Record:
        return setup_record(self.folder, self._shelves, self.errands, self._endpoint)

    def _tell_setup(self) -> None:
        self.listeners.tell("setup", self._setup())

    def _tell_writing(self, record: Record) -> None:
        self._progress = record
        self.listeners.tell("writing", record)

    def _look_round(self) -> Shelves:
        found = shelf.models(self.folder, self._models), shelf.adapters(self.folder)
        return Shelves(*found, self.uploads)

    def _looked(self) -> Record:
        draft, shelves = self._board.draft, self._shelves
        return look(draft, self._board.rev, shelves, lambda: self._vocabulary.of(shelves.model(draft)))

    def _changed(self) -> Record:
        """Tell the draft and what follows from it."""
        self._look = self._looked()
        record = self.board()
        self.listeners.tell("board", record)
        self.listeners.tell("look", self._look)
        self._ask_for_plan()
        return record

    def _ask_for_plan(self) -> None:
        with self._lock:
            rev, draft = self._board.rev, self._board.draft
            try:
                order = self._orders.planned(draft, self._shelves, self._own / "planned.toml")
                asked = at_place(order.table(), self._place)
                self._plan = self._planning.ask(rev, asked, emptied=self.queue.is_busy)
            except HoloError as error:
                self._plan = self._planning.forget(rev, str(error))
            self.listeners.tell("plan", self._plan)

    def _planned(self, record: Record) -> None:
        with self._lock:
            self._plan = record
            self.listeners.tell("plan", record)

    def _glance_soon(self) -> None:
        self._wake.set()

    def _watch(self) -> None:
        """Look at the folder now and then, and when a job has ended: others may put videos and models there."""
        while not self._closing.is_set():
            self._wake.wait(GLANCE)
            self._wake.clear()
            self.glance()

    def glance(self) -> None:
        """Look at the folder, and tell what has changed."""
        with self._lock:
            if self.gallery.look():
                self.listeners.tell("gallery", self.gallery.records())
            shelves = self._look_round()
            if (shelves.models, shelves.adapters) != (self._shelves.models, self._shelves.adapters):
                self._shelves = shelves
                self._tell_setup()


class ThereError(OutputError):
    """A file is there that would be written over."""


def _file_name(name: str) -> str:
    """The name of a storyboard file in the folder. Raises `OutputError` for one that would be elsewhere."""
    name = name.strip().removesuffix(".toml")
    if not name or name.startswith(".") or any(c in '/\\:*?"<>|' or not c.isprintable() for c in name):
        raise OutputError(f"{name!a:.60}: is no name for a file; use letters, digits, spaces and hyphens")
    if is_device(name):
        raise OutputError(f"{name}: is the name of a device on Windows; choose another name")
    if len(name.encode()) > 200:
        raise OutputError("the name is too long; use a shorter one")
    return f"{name}.toml"


def _has_comments(path: Path) -> bool:
    """Whether a hand-written file would lose something."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return True
    return any(line.lstrip().startswith("#") for line in lines)
