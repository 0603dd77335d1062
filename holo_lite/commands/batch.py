"""`holo-lite batch`: many storyboards, the model opened once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holo_lite.cancel import Cancelled
from holo_lite.commands.helping import Command, option
from holo_lite.commands.options import latents_option, model_option, overwrite_option, preview_option, run_options
from holo_lite.commands.shared import TINY_NOTICE, opened, previewed
from holo_lite.commands.stopping import token
from holo_lite.commands.talking import messages, talking_options
from holo_lite.commands.telling import tell
from holo_lite.errors import FarmError
from holo_lite.system.units import duration_text

if TYPE_CHECKING:
    from holo_lite.events import Events
    from holo_lite.jobs.items import BatchItem, ItemEnded
    from holo_lite.render.job import Job
    from holo_lite.render.pipeline import Pipeline
    from holo_lite.settings import Options

NOT_ALL = 1
Make = Callable[[Sequence["BatchItem"], list["ItemEnded"]], None]


@click.command(cls=Command, short_help="Make a video of each of many storyboards.")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@model_option
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(), help="Folder to write into.  [default: this one]"
)
@overwrite_option
@option(
    "--ray",
    metavar="ADDRESS",
    help="Use all cards of a Ray cluster: HOST:PORT of its head, auto (the one that runs here), or local (this "
    "machine's cards). SOURCES, --out and --model must be the same files on all machines.",
)
@run_options
@latents_option
@preview_option
@talking_options
def batch(sources: tuple[Path, ...], model: Path | None, out: Path, ray: str | None, **said: Any) -> None:
    """Make a video of every storyboard in SOURCES: files, and folders of them.

    The model is opened once. Existing videos are kept; failures are reported and the rest continues.
    The exit code is 0 if all videos exist at the end, 1 if not.
    """
    from holo_lite.jobs.batch import find_items
    from holo_lite.views.batch import summary

    items = find_items(sources, out)
    make = _here(model, **said) if ray is None else _farming(ray, out, model, **said)
    ended, is_begun = list["ItemEnded"](), True
    try:
        make(items, ended)
    except FarmError:
        is_begun = bool(ended)
        raise
    except (KeyboardInterrupt, Cancelled):
        raise click.Abort("finished videos are kept; type the same command to continue") from None
    finally:
        for line in summary(items, ended) if is_begun else ():
            tell(line)
    if any(each.state in {"other", "failed"} for each in ended):
        click.get_current_context().exit(NOT_ALL)


def _here(model: Path | None, *, overwrite: bool, latents: bool, preview: int | None, **said: Any) -> Make:
    """What makes the videos on this machine, with the model opened."""
    pipeline, options = opened(model, **said)

    def make(items: Sequence[BatchItem], ended: list[ItemEnded]) -> None:
        _run(pipeline, items, options, ended, again=overwrite, latents=latents, preview=preview)

    return make


def _farming(address: str, out: Path, model: Path | None, **said: Any) -> Make:
    """What makes them over a cluster."""
    from holo_lite.commands.farming import Farming, connecting, wanted

    return Farming(connecting(), address, out, wanted(model, **said)).make


def _run(
    pipeline: Pipeline,
    items: Sequence[BatchItem],
    options: Options,
    ended: list[ItemEnded],
    *,
    again: bool,
    latents: bool,
    preview: int | None,
) -> None:
    """Make the videos, show the progress, and collect the result of each."""
    from holo_lite.jobs.batch import render_batch, saved_run
    from holo_lite.jobs.items import ItemEnded
    from holo_lite.views.batch import line
    from holo_lite.views.display import display
    from holo_lite.views.run import show

    def begin(pipeline: Pipeline, job: Job, video: Path) -> Events:
        events = saved_run(pipeline, job, video, latents=latents)
        return previewed(events, pipeline, video, preview, overwrite=again)

    start = time.monotonic()
    events = render_batch(pipeline, items, options, again=again, begin=begin, cancel=token())
    with closing(events), display(messages()) as view:
        if pipeline.model.is_built_in:
            view.say(TINY_NOTICE)
        for event in events:
            match event:
                case ItemEnded():
                    ended.append(event)
                    if event.state != "done":
                        view.say(line(event))
                case _:
                    show(event, view)
        view.say(f"all took       {duration_text(time.monotonic() - start)}")
