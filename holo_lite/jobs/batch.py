"""Many storyboards, one model: existing videos are kept, failures are reported, and the rest continues.

The model is opened and checked once, and the text encoder, 11 GB of the real one, is read once for all prompts.
The experts' weights are read from the disk again for each video: between two videos the VAE uses their memory.
Each video is made as if it were alone: its run is saved next to it after every step, so an interrupted batch
continues within the video where it stopped.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from holo_lite.cancel import Cancel
from holo_lite.errors import (
    HoloError,
    OutputError,
    StoryboardError,
    first_three,
)
from holo_lite.events import Event, Events
from holo_lite.film.video import check_writable
from holo_lite.jobs.items import BatchItem, ItemEnded, ItemStarted, items_started
from holo_lite.render.job import Job
from holo_lite.render.pipeline import Pipeline
from holo_lite.render.sinks import FilmSink
from holo_lite.runs.folder import RunFolder
from holo_lite.runs.own import files_beside, is_finished, video_at
from holo_lite.settings import Options
from holo_lite.story.files import SUFFIXES, load_storyboard

Begin = Callable[[Pipeline, Job, Path], Events]


BatchEvent = Event | ItemStarted | ItemEnded
BatchEvents = Generator[BatchEvent, None, None]


def find_items(sources: Iterable[Path], out: Path) -> tuple[BatchItem, ...]:
    """The storyboards named, and those in folders named, each with a video of its name in the folder `out`.

    Raises `StoryboardError` where there are none, or for two of one name, and `OutputError` for a file in the
    folder's place. A storyboard that is not there fails alone, unless no other is there.
    """
    files = list(dict.fromkeys(file for source in sources for file in _files(source)))
    if files and not any(map(os.path.lexists, files)):
        raise StoryboardError(f"{first_three(map(str, files))}: there is no such file; check the name")
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; name a folder for the videos")
    twice = [name for name, count in Counter(file.stem for file in files).items() if count > 1]
    if twice:
        raise StoryboardError(f"several storyboards are named {first_three(twice)}; rename all but one of each")
    return tuple(BatchItem(file, out / f"{file.stem}.mp4") for file in files)


def render_batch(
    pipeline: Pipeline,
    items: Sequence[BatchItem],
    options: Options,
    *,
    again: bool = False,
    begin: Begin | None = None,
    cancel: Cancel | None = None,
) -> BatchEvents:
    """Make the videos that do not exist: first reports those that are kept, then makes one after the other.

    `again` makes those again whose place another file has; `begin` starts a run. An error that a person can
    fix ends its item; any other error ends the batch. Close it to cancel; or give a token `cancel`,
    which every job has, and by which any thread cancels within a block.
    """
    cancel, jobs = cancel or Cancel(), list[tuple[BatchItem, Job]]()
    for item in items:
        cancel.check()
        found = _look(pipeline, item, options, again=again)
        if isinstance(found, Job):
            jobs.append((item, replace(found, cancel=cancel)))
        else:
            yield found
    with suppress(HoloError):  # the run that meets the error reports it
        yield from pipeline.read_ahead([job for _, job in jobs])
    started = items_started([item for item, _ in jobs], [sum(pipeline.work(job).values()) for _, job in jobs])
    for begun, (item, job) in zip(started, jobs, strict=True):
        cancel.check()
        yield begun
        yield (yield from _make(pipeline, item, as_remembered(job), begin or saved_run))


def saved_run(pipeline: Pipeline, job: Job, video: Path, *, latents: bool = True) -> Events:
    """Begin a run that is saved next to its video, or resume it; `latents` are kept with the video."""
    return pipeline.run(job, FilmSink.at(video, latents=latents), RunFolder.beside(video).path)


def as_remembered(job: Job) -> Job:
    """The job with the smaller plan, if an earlier video of its size had to take one since it was decided."""
    return job.planned(job.remembered.apply(job.plan))


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    found = sorted(path for path in source.iterdir() if _is_storyboard(path))
    if not found:
        raise StoryboardError(f"{source}: holds no storyboards ({', '.join(SUFFIXES)})")
    return found


def _is_storyboard(path: Path) -> bool:
    """By its name. Hidden files do not count: macOS leaves one next to every file on a foreign disk."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def decide(pipeline: Pipeline, item: BatchItem, options: Options, *, again: bool = False) -> Job | ItemEnded:
    """What to do about an item: a job if its video must be made, else what is there.

    Raises what `Pipeline.prepare` raises, and `OutputError` where the video cannot be written.
    """
    job = pipeline.prepare(load_storyboard(item.storyboard), options)
    video = video_at(item.video, job.settings)
    if is_finished(item.video, job.settings):
        return ItemEnded(item, "there", "exists with these settings")
    beside = {path: found for path, found in files_beside(item.video, job.settings) if found.state == "other"}
    if again or not (video.state == "other" or beside):
        check_writable(item.video)
        return job
    why = video.why or next(f"the {_kind(path)} {path.name} is {found.why}" for path, found in beside.items())
    return ItemEnded(item, "other", f"{why}; use --overwrite to replace it")


def _look(pipeline: Pipeline, item: BatchItem, options: Options, *, again: bool) -> Job | ItemEnded:
    """The same, where an error is a failed item."""
    try:
        return decide(pipeline, item, options, again=again)
    except HoloError as error:
        return ItemEnded(item, "failed", str(error))


def _kind(path: Path) -> str:
    return "picture" if path.suffix == ".png" else "file"


def _make(pipeline: Pipeline, item: BatchItem, job: Job, begin: Begin) -> Generator[Event, None, ItemEnded]:
    """Run a job and say how it ended."""
    start = time.monotonic()
    try:
        yield from begin(pipeline, job, item.video)
    except (HoloError, OSError) as error:
        return ItemEnded(item, "failed", str(error))
    return ItemEnded(item, "done", seconds=time.monotonic() - start)
