"""What a page asks for as a job: its order for the process that renders, its title, and the name of its file."""

from __future__ import annotations

import dataclasses
import itertools
import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holo_lite.config import Defaults
from holo_lite.errors import SettingsError
from holo_lite.jobs.drafts import few, smaller
from holo_lite.preflight.check import check_storyboard
from holo_lite.reading.values import shown
from holo_lite.settings import BUILT_IN, Options
from holo_lite.story.files import dump_toml
from holo_lite.system.file_names import is_device
from holo_lite.system.whole_files import write_whole
from holo_lite.web.book import JobBook, JobEntry, Kind
from holo_lite.web.draft import Draft
from holo_lite.web.gallery import GalleryVideo
from holo_lite.web.shelf import ShelfItem
from holo_lite.web.storyboards import Shelves, opening_of, options_of, saved_storyboard, storyboard_of
from holo_lite.worker.order import Opening, Order

ClipSize = tuple[int, int, int, float, int]  # width, height, frames, frames a second, steps
LONGEST_STEM = 60
MOST_SEEDS = 16
PREVIEWS = 12  # of a run, about
SHOT_TITLE = 60
STORYBOARD = "storyboard.toml"


@dataclass(frozen=True)
class Orders:
    """Makes orders. folder: where videos go; jobs: where each job has a folder of its own."""

    folder: Path
    jobs: Path
    book: JobBook

    def board(self, kind: Kind, draft: Draft, shelves: Shelves, count: int = 4) -> JobEntry:
        """A draft to make: in full, as a draft, or as drafts of several seeds. Raises what `check` raises."""
        model = shelves.model(draft)
        order = self._of_draft(draft, shelves, checked=model)
        stem = _stem(draft.title or draft.scene)
        options = order.options
        if kind == "seeds":
            first, number = options.seed or 0, min(max(count, 2), MOST_SEEDS)
            order = dataclasses.replace(order, seeds=tuple(range(first, first + number)))
        ending = {"full": ".mp4", "draft": "-draft.mp4", "seeds": "-seeds.png"}[kind]
        order = dataclasses.replace(
            order, out=self._free(stem, ending), draft=kind == "draft", latents=kind == "full"
        )
        size = _size(draft, model.defaults)
        return self._entry(kind, _title(draft), order, size if kind == "full" else _as_draft(size, kind))

    def retake(
        self, video: GalleryVideo, again: Mapping[int, str | None], seed: int | None, draft: Draft, shelves: Shelves
    ) -> JobEntry:
        """Shots of a video again. Raises `SettingsError` for one that is not ours, or of another model."""
        settings = _ours(video)
        model, opening = self._opened_as(video, draft, shelves)
        out = self._free(video.path.stem, "-retake.mp4")
        shots = {str(number): caption for number, caption in again.items()}
        order = Order(out, video=video.path, again=shots, model=model, opening=opening, options=Options(seed=seed))
        title = f"{video.path.stem}: shot {', '.join(shots)} again"
        size = settings.width, settings.height, settings.shown.num_frames, settings.fps, settings.steps
        return self._entry("retake", title, order, size, made_from=video.path.name)

    def extend(
        self, video: GalleryVideo, draft: Draft, shelves: Shelves, remember: tuple[int, ...] | None
    ) -> JobEntry:
        """The draft as what follows a video. Raises as `retake` does, and what the draft raises."""
        settings = _ours(video)
        model, opening = self._opened_as(video, draft, shelves)
        own = dataclasses.replace(draft.settings, width=settings.width, height=settings.height, fps=settings.fps)
        order = self._of_draft(dataclasses.replace(draft, settings=own), shelves)
        out = self._free(video.path.stem, "-more.mp4")
        order = dataclasses.replace(
            order, out=out, video=video.path, remember=remember, model=model, opening=opening
        )
        size = settings.width, settings.height, draft.frames, settings.fps, own.steps or settings.steps
        return self._entry(
            "extend", f"{video.path.stem}: the story goes on", order, size, made_from=video.path.name
        )

    def planned(self, draft: Draft, shelves: Shelves, file: Path) -> Order:
        """A draft as an order that is only planned; its storyboard goes into `file`. Raises as it does."""
        order = self._of_draft(draft, shelves)
        write_whole(file, dump_toml(storyboard_of(draft, shelves)).encode())
        return dataclasses.replace(order, storyboard=file, out=file.with_suffix(".mp4"))

    def write_storyboard(self, entry: JobEntry, draft: Draft, shelves: Shelves) -> JobEntry:
        """Put the storyboard of a job into its folder, under the name its order has."""
        file = self.jobs / entry.id / STORYBOARD
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, dump_toml(saved_storyboard(draft, shelves)).encode())
        return dataclasses.replace(entry, order={**entry.order, "storyboard": str(file)})

    def _of_draft(self, draft: Draft, shelves: Shelves, checked: ShelfItem | None = None) -> Order:
        board, options = storyboard_of(draft, shelves), options_of(draft)
        if checked is not None:
            check_storyboard(board, options, defaults=checked.defaults, attention=checked.attention)
        opening = Opening(**opening_of(draft, shelves))
        model = shelves.model(draft).path
        return Order("", storyboard=STORYBOARD, model=model, opening=opening, options=options)

    def _opened_as(self, video: GalleryVideo, draft: Draft, shelves: Shelves) -> tuple[Path | None, Opening]:
        """The model of a video: as the job that made it had it; else the built-in one, or the one chosen now."""
        for entry in self.book.all():
            if Path(entry.order["out"]) == video.path:
                made = Opening(**{**vars(Opening()), **entry.order.get("opening", {})})
                model = entry.order.get("model")
                return (Path(model) if model is not None else None), made
        if _ours(video).model.startswith(BUILT_IN):
            return None, Opening()
        return shelves.model(draft).path, Opening(**opening_of(draft, shelves))

    def _entry(
        self,
        kind: Kind,
        title: str,
        order: Order,
        size: ClipSize,
        made_from: str | None = None,
    ) -> JobEntry:
        name = secrets.token_hex(8)
        folder = self.jobs / name
        folder.mkdir(parents=True, exist_ok=True)
        every = max(1, round(size[-1] / PREVIEWS))
        order = dataclasses.replace(order, preview=every, preview_at=folder / "preview.png")
        width, height, frames, fps, steps = size
        return JobEntry(
            id=name,
            place=0.0,
            kind=kind,
            title=title,
            state="waiting",
            why="",
            width=width,
            height=height,
            frames=frames,
            fps=fps,
            steps=steps,
            made_from=made_from,
            began=None,
            seconds=None,
            order=order.table(),
        )

    def _free(self, stem: str, ending: str) -> Path:
        """A name that neither a file, nor an unfinished run, nor another job has."""
        taken = {entry.order["out"] for entry in self.book.all()}
        for number in itertools.count(1):
            path = (self.folder / f"{stem}{'' if number == 1 else f'-{number}'}{ending}").absolute()
            others = (path, path.with_suffix(".png"), Path(f"{path}.run"))
            if str(path) not in taken and not any(each.exists() for each in others):
                return path
        raise AssertionError("numbers do not end")


def shots_again(said: Any) -> dict[int, str | None]:
    """The shots of a retake as the page names them. Raises `SettingsError`."""
    found: dict[int, str | None] = {}
    for each in said if isinstance(said, list) else [said]:
        number, caption = (each.get("number"), each.get("caption")) if isinstance(each, dict) else (None, None)
        if type(number) is not int or not (caption is None or isinstance(caption, str)):
            raise SettingsError(f"shots {shown(said)}: name each by its number, with its caption or null")
        found[number] = caption
    if not found:
        raise SettingsError("no shot is named; name the one to make again")
    return found


def _ours(video: GalleryVideo) -> Any:
    if video.settings is None:
        raise SettingsError(
            f"{video.path.name}: was not made by holo-lite, or by a later one; nothing is known of it"
        )
    return video.settings


def _title(draft: Draft) -> str:
    return draft.title or " ".join(draft.scene.split())[:SHOT_TITLE] or "untitled"


def _size(draft: Draft, defaults: Defaults) -> ClipSize:
    said = draft.settings
    width, height = said.width or defaults.width, said.height or defaults.height
    return width, height, draft.frames, said.fps or defaults.fps, said.steps or defaults.steps


def _as_draft(size: ClipSize, kind: Kind) -> ClipSize:
    """What a draft is made at; one of several seeds keeps its size."""
    width, height, frames, fps, steps = size
    if kind == "draft":
        height, width = smaller(height, width)
    return width, height, frames, fps, few(steps)


def _stem(text: str) -> str:
    """A file's name of a text: letters and digits of any script, the rest as hyphens."""
    flat = unicodedata.normalize("NFKC", text).casefold()
    words = re.findall(r"\w+", flat.replace("_", " "))
    stem = "-".join(words)
    while len(stem.encode()) > LONGEST_STEM:
        stem = stem[:-1]
    stem = stem.strip("-") or "film"
    return f"film-{stem}" if is_device(stem) else stem
