"""Making what a command describes: only shown, as drafts, or in full."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from holo_lite.commands.drafting import Drafting
from holo_lite.commands.naming import is_done, named_after
from holo_lite.commands.shared import previewed, show_job, watch
from holo_lite.commands.stopping import token

if TYPE_CHECKING:
    from holo_lite.directing.direction import AnyFilm
    from holo_lite.events import Events
    from holo_lite.render.job import Job
    from holo_lite.render.pipeline import Pipeline
    from holo_lite.settings import Options


@dataclass(frozen=True)
class Wishes:
    """What a person wants of a run besides the video itself."""

    out: Path | None = None
    overwrite: bool = False
    preview: int | None = None
    keep_run: bool = False
    latents: bool = True
    progress: str = "text"


@dataclass(frozen=True)
class Making:
    """A film to make, with an opened model. stem: what its files are named by; source: what it is made from."""

    pipeline: Pipeline
    film: AnyFilm
    options: Options
    stem: str
    source: Path
    wishes: Wishes

    def show(self) -> None:
        """Show what would be made, and how."""
        show_job(self.pipeline, self._job())

    def drafts(self, seeds: str | None, *, small: bool) -> None:
        """Make a draft, or one of each seed."""
        shown = partial(watch, self.pipeline, progress=self.wishes.progress)
        drafting = Drafting(
            self.pipeline,
            self.stem,
            self.film,
            self.source,
            self.options,
            self._job(),
            self.wishes.out,
            shown,
            self.wishes.overwrite,
        )
        drafting.one() if seeds is None else drafting.of_seeds(seeds, small=small)

    def full(self) -> Path:
        """Make the video, unless it is there already. Returns where it is."""
        from holo_lite.render.sinks import FilmSink
        from holo_lite.runs.folder import RunFolder

        job, wishes = self._job(), self.wishes
        video = wishes.out or named_after(self.stem, job.settings)
        if is_done(video, job.settings, overwrite=wishes.overwrite, latents=wishes.latents):
            return video
        folder, sink = RunFolder.beside(video), FilmSink.at(video, latents=wishes.latents)

        def begin() -> Events:
            events = self.pipeline.run(job, sink, folder.path, keep_run=wishes.keep_run, cancel=token())
            return previewed(events, self.pipeline, video, wishes.preview, overwrite=wishes.overwrite)

        watch(self.pipeline, begin, folder, wishes.progress)
        return video

    def _job(self) -> Job:
        return self.pipeline.prepare(self.film, self.options)
