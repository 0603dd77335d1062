"""`holo-lite batch`: many storyboards, the model opened once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holo_lite.cancel import Cancelled
from holo_lite.commands.helping import Command
from holo_lite.commands.options import latents_option, model_option, overwrite_option, preview_option, run_options
from holo_lite.commands.shared import TINY_NOTICE, opened, previewed
from holo_lite.commands.stopping import token
from holo_lite.commands.talking import messages, talking_options
from holo_lite.commands.telling import tell
from holo_lite.system.units import duration_text

if TYPE_CHECKING:
    from holo_lite.events import Events
    from holo_lite.jobs.items import BatchItem, ItemEnded
    from holo_lite.render.job import Job
    from holo_lite.render.pipeline import Pipeline
    from holo_lite.settings import Options

NOT_ALL = 1
WORDS = {"done": "done", "there": "kept", "other": "different", "failed": "failed"}


@click.command(cls=Command, short_help="Make a video of each of many storyboards.")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@model_option
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(), help="Folder to write into.  [default: this one]"
)
@overwrite_option
@run_options
@latents_option
@preview_option
@talking_options
def batch(
    sources: tuple[Path, ...],
    model: Path | None,
    out: Path,
    overwrite: bool,
    latents: bool,
    preview: int | None,
    **said: Any,
) -> None:
    """Make a video of every storyboard in SOURCES: files, and folders of them.

    The model is opened once. Existing videos are kept; failures are reported and the rest continues.
    The exit code is 0 if all videos exist at the end, 1 if not.
    """
    from holo_lite.jobs.batch import find_items

    items = find_items(sources, out)
    pipeline, options = opened(model, **said)
    ended: list[ItemEnded] = []
    try:
        _run(pipeline, items, options, ended, again=overwrite, latents=latents, preview=preview)
    except (KeyboardInterrupt, Cancelled):
        raise click.Abort("finished videos are kept; type the same command to continue") from None
    finally:
        for line in summary(items, ended):
            tell(line)
    if any(each.state in {"other", "failed"} for each in ended):
        click.get_current_context().exit(NOT_ALL)


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
                        view.say(_line(event))
                case _:
                    show(event, view)
        view.say(f"all took       {duration_text(time.monotonic() - start)}")


def summary(items: Sequence[BatchItem], ended: Sequence[ItemEnded]) -> Iterator[str]:
    """A line for each storyboard, in the order given, and how many there are of each kind."""
    by_item = {each.item: each for each in ended}
    yield from (_line(by_item[item]) if item in by_item else f"{'not begun':10}  {item.video}" for item in items)
    counts = {word: sum(each.state == state for each in ended) for state, word in WORDS.items()}
    said = [f"{count} {word}" for word, count in counts.items() if count]
    if len(ended) < len(items):
        said.append(f"{len(items) - len(ended)} not begun or interrupted")
    yield ", ".join(said)


def _line(ended: ItemEnded) -> str:
    """The result of one: its video, unless an error names it or its storyboard."""
    why = ended.why or f"in {duration_text(ended.seconds)}"
    named = why.startswith((f"{ended.item.storyboard}:", f"{ended.item.video}:"))
    subject = "" if named else f"{ended.item.video}  "
    return f"{WORDS[ended.state]:10}  {subject}{why}"
