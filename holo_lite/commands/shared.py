"""What commands that make videos share: opening a model, showing a run, naming files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from holo_lite.cancel import Cancelled
from holo_lite.commands.naming import resuming
from holo_lite.commands.recording import write_event
from holo_lite.commands.stopping import token
from holo_lite.commands.talking import messages
from holo_lite.errors import HoloError, RunError
from holo_lite.system.garbage import bringing_torch

OPENING = (
    "device",
    "devices",
    "dtype",
    "profile",
    "kernel",
    "compute",
    "fuse",
)  # options that open a model, as given
PREVIEW_EVERY = 5  # steps, in a terminal

if TYPE_CHECKING:
    from holo_lite.events import Events
    from holo_lite.jobs.batch import BatchEvent, BatchEvents
    from holo_lite.opening.options import ModelOptions
    from holo_lite.render.job import Job
    from holo_lite.render.pipeline import Pipeline
    from holo_lite.runs.folder import RunFolder
    from holo_lite.settings import Options
    from holo_lite.story.storyboard import Storyboard

TINY_NOTICE = (
    "holo-tiny, the built-in model: it only knows coloured shapes in front of a wall (see holo-lite demo); "
    "README.md says how to get the real weights"
)


def opened(model: Path | None, *, loras: Any, attention: str | None, **said: Any) -> tuple[Pipeline, Options]:
    """Open a model with the values of `run_options`. Returns it, and the options of the run itself."""
    from holo_lite.opening.options import ModelOptions
    from holo_lite.settings import Options, check_attention

    variant = check_attention(attention) if attention is not None else None
    opening = {name: said.pop(name) for name in OPENING}
    return load(model, ModelOptions(attention=variant, lora=loras, **opening)), Options(**said, attention=variant)


def load(model: Path | None, options: ModelOptions) -> Pipeline:
    """Open a model; the import is here, since it takes a second."""
    with bringing_torch():
        from holo_lite.render.pipeline import Pipeline

    return Pipeline.load(model, options)


def run(pipeline: Pipeline, board: Storyboard, out: Path, options: Any) -> None:
    """Make a short video without saving its state, and show the progress."""
    watch(pipeline, lambda: pipeline.generate(board, out, options, cancel=token()))


def watch(
    pipeline: Pipeline, begin: Callable[[], BatchEvents], folder: RunFolder | None = None, progress: str = "text"
) -> None:
    """Begin a run and show its progress. If it is saved in a folder and interrupted, say how to continue."""
    events = begin()
    with telling_how_to_go_on(folder), closing(events), _shown(pipeline, progress) as show:
        for event in events:
            show(event)


@contextmanager
def _shown(pipeline: Pipeline, progress: str) -> Iterator[Callable[[BatchEvent], None]]:
    """What shows an event: to a person on standard error, or as a line of JSON on standard output."""
    from holo_lite.views.display import display
    from holo_lite.views.run import show

    if progress == "json":
        yield write_event
        return
    with display(messages()) as view:
        if pipeline.model.is_built_in:
            view.say(TINY_NOTICE)
        yield partial(show, view=view)


def previewed(
    events: Events, pipeline: Pipeline, out: Path, every: int | None, *, overwrite: bool = False
) -> Events:
    """Have a preview drawn next to a video after every `every` steps; None: only in a terminal."""
    if every is None:
        every = PREVIEW_EVERY if Console(stderr=True).is_terminal else 0
    if not every:
        return events
    from holo_lite.jobs.preview import previewed as drawn_beside

    return drawn_beside(events, pipeline.model, out, every, overwrite=overwrite)


@contextmanager
def telling_how_to_go_on(folder: RunFolder | None) -> Iterator[None]:
    """Append the command that continues to the error that ends a run, if a step of it was saved."""
    try:
        yield
    except (KeyboardInterrupt, Cancelled):
        if folder is None or not folder.has_state:
            raise
        raise click.Abort(f"finished steps are saved; to continue, type {resuming(folder)}") from None
    except HoloError as error:
        if folder is None or not folder.has_state or isinstance(error, RunError):
            raise
        raise type(error)(f"{error}; finished steps are saved: {resuming(folder)} continues") from error


def show_job(pipeline: Pipeline, job: Job) -> None:
    """Show what would be made, and how."""
    from holo_lite.events import Resolved
    from holo_lite.views.display import display
    from holo_lite.views.run import show

    with display(messages()) as view:
        show(Resolved(job.settings, job.notes, job.plan, pipeline.choice.why, pipeline.model.setup.lines), view)
