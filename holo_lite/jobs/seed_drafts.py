"""A draft for each seed, one after the other, and a picture of them all."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from holo_lite.cancel import Cancel
from holo_lite.events import Event, Events, FrameDone
from holo_lite.film.seed_sheet import SeedSheet
from holo_lite.jobs.items import BatchItem, ItemStarted, items_started
from holo_lite.render.job import Job
from holo_lite.render.pipeline import Pipeline
from holo_lite.render.sinks import FilmSink
from holo_lite.runs.own import seeds_mark

DraftEvents = Generator[Event | ItemStarted, None, None]


@dataclass(frozen=True)
class SeedDrafts:
    """Prepared drafts and their videos, by seed. source: what they are made from, for a person."""

    pipeline: Pipeline
    jobs: Mapping[int, Job]
    videos: Mapping[int, Path]
    source: Path
    cancel: Cancel

    def made(self, sheet: SeedSheet, picture: Path) -> DraftEvents:
        """Make them; at the end, or where they are cut short, the sheet of what there is goes to `picture`."""
        try:
            yield from self._each(sheet)
        finally:
            if sheet.begun:
                first = next(iter(self.jobs.values()))
                sheet.save(picture, seeds_mark(list(self.jobs), first.settings))

    def _each(self, sheet: SeedSheet) -> DraftEvents:
        items = [BatchItem(self.source, video) for video in self.videos.values()]
        started = items_started(items, [1.0] * len(items))  # seeds alone differ
        for begun, (seed, job) in zip(started, self.jobs.items(), strict=True):
            yield begun
            with closing(self._begun(job, begun.item.video)) as events:
                for event in events:
                    if isinstance(event, FrameDone):
                        sheet.add(seed, event.index, event.pixels)
                    yield event

    def _begun(self, job: Job, video: Path) -> Events:
        """Begin a draft. Its latents are not kept: nothing goes on from a draft."""
        return self.pipeline.run(job, FilmSink.at(video, latents=False), cancel=self.cancel)
