"""An order carried out: its model is opened, or kept from the order before, and its events pass by."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from holo_lite.cancel import Cancel
from holo_lite.directing.direction import AnyFilm
from holo_lite.directing.extension import Extension
from holo_lite.directing.old_film import OldFilm
from holo_lite.directing.retake import Retake
from holo_lite.errors import SettingsError
from holo_lite.events import Events
from holo_lite.film.seed_sheet import SeedSheet, check_place
from holo_lite.film.video import check_writable
from holo_lite.jobs.batch import BatchEvents
from holo_lite.jobs.drafts import draft_options
from holo_lite.jobs.preview import colours_of, with_previews
from holo_lite.jobs.seed_drafts import SeedDrafts
from holo_lite.render.job import Job
from holo_lite.render.pipeline import Pipeline
from holo_lite.render.sinks import FilmSink, RawSink
from holo_lite.runs.folder import RunFolder
from holo_lite.runs.own import is_finished, refuse_another_video
from holo_lite.settings import BUILT_IN
from holo_lite.story.files import load_storyboard
from holo_lite.worker.order import Opening, Order


def film_of(order: Order) -> AnyFilm:
    """What an order asks for."""
    board = load_storyboard(Path(order.storyboard)) if order.storyboard is not None else None
    if order.video is None:
        assert board is not None, "an order has a storyboard or a video"
        return board
    return (
        Retake(order.video, order.shots_again) if board is None else Extension(order.video, board, order.remember)
    )


class Models:
    """The model that was opened last, which the next order may want, too."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[str | None, Opening], Pipeline] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is one."""
        return self._kept is not None

    def open(self, order: Order) -> Pipeline:
        """The model of an order. Raises what `Pipeline.load` raises."""
        opening = _as_the_video(order)
        wanted = (None if order.model is None else str(order.model), opening)
        if self._kept is None or self._kept[0] != wanted:
            self.close()
            self._kept = wanted, Pipeline.load(order.model, opening.options)
        return self._kept[1]

    def close(self) -> None:
        """Keep none, and let the ranks end that compute with this process."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept[1].close()


def begin(order: Order, pipeline: Pipeline, cancel: Cancel) -> BatchEvents | None:
    """Begin an order. None: its video is there already. Raises what `Pipeline.generate` raises."""
    film = film_of(order)
    job = pipeline.prepare(film, order.options)
    if order.seeds:
        return _seeds(order, pipeline, film, job, cancel)
    if order.draft:
        job = pipeline.prepare(film, draft_options(order.options, job.settings, small=True))
    if order.frames == "raw":
        sink = RawSink(Path(order.out))
        return _previewed(order, pipeline, pipeline.run(job, sink, _run(order), cancel=cancel))
    return _film(order, pipeline, job, cancel)


def _film(order: Order, pipeline: Pipeline, job: Job, cancel: Cancel) -> Events | None:
    video, latents = Path(order.out), order.latents and not order.draft
    raw = Path(order.raw) if order.raw is not None else None
    check_writable(video)
    if raw is None and is_finished(video, job.settings, latents=latents):
        return None
    if not order.overwrite:
        refuse_another_video(video, job.settings, latents=latents)
    sink = FilmSink.at(video, latents=latents, raw=raw)
    return _previewed(order, pipeline, pipeline.run(job, sink, _run(order), keep_run=order.keep_run, cancel=cancel))


def _seeds(order: Order, pipeline: Pipeline, film: AnyFilm, full: Job, cancel: Cancel) -> BatchEvents:
    """A draft of each seed beside the sheet of them all."""
    sheet = Path(order.out)
    check_place(sheet)
    options = draft_options(order.options, full.settings, small=False)
    jobs = {seed: pipeline.prepare(film, dataclasses.replace(options, seed=seed)) for seed in order.seeds}
    videos = {seed: sheet.with_name(f"{sheet.stem}-{seed}.mp4") for seed in order.seeds}
    drawn = SeedSheet(order.seeds, full.settings.new_shots)
    source = Path(order.storyboard or order.video or "")
    return SeedDrafts(pipeline, jobs, videos, source, cancel).made(drawn, sheet)


def _run(order: Order) -> Path:
    """Where the run's state is kept, so that it goes on from its last step."""
    return RunFolder.beside(Path(order.out)).path


def _previewed(order: Order, pipeline: Pipeline, events: Events) -> Events:
    if not order.preview or order.preview_at is None:
        return events
    colours = partial(colours_of, pipeline.model.folder)
    return with_previews(events, colours, Path(order.preview_at), order.preview, overwrite=True)


def _as_the_video(order: Order) -> Opening:
    """How a model is opened: as for the video that is directed, where nothing else is said.

    Raises `SettingsError`, and `OutputError` for a video that cannot be used.
    """
    if order.video is None:
        return order.opening
    settings = OldFilm.read(Path(order.video)).settings
    if order.model is None and not settings.model.startswith(BUILT_IN):
        raise SettingsError(
            f"{Path(order.video).name}: was made with another model than the built-in one; choose it"
        )
    dtype = settings.dtype if order.opening.dtype == "auto" else order.opening.dtype
    return dataclasses.replace(order.opening, dtype=dtype)
