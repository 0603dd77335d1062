"""`holo-lite generate`: a storyboard becomes a video."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holo_lite.commands.drafting import Drafting
from holo_lite.commands.helping import Command
from holo_lite.commands.naming import is_done, named_after
from holo_lite.commands.options import (
    keep_option,
    model_option,
    out_option,
    overwrite_option,
    preview_option,
    progress_option,
    run_options,
)
from holo_lite.commands.shared import opened, previewed, show_job, watch
from holo_lite.commands.stopping import token
from holo_lite.commands.storyboards import GivenStoryboard, storyboard_argument
from holo_lite.commands.talking import talking_options

if TYPE_CHECKING:
    from holo_lite.events import Events


@click.command(cls=Command, short_help="Make a video from a storyboard.")
@storyboard_argument
@model_option
@out_option
@run_options
@click.option(
    "--draft", is_flag=True, help="Use a quarter of the steps and half the size, to check cuts and framing."
)
@click.option("--seeds", metavar="NUMBERS", help="Make drafts to choose from: how many, or a list such as 1,5,9.")
@overwrite_option
@preview_option
@keep_option
@click.option("--dry-run", is_flag=True, help="Show what would be made, and how; make nothing.")
@progress_option
@talking_options
def generate(
    storyboard: GivenStoryboard,
    model: Path | None,
    out: Path | None,
    draft: bool,
    seeds: str | None,
    overwrite: bool,
    preview: int | None,
    keep_run: bool,
    dry_run: bool,
    progress: str,
    **said: Any,
) -> None:
    """Make a video from STORYBOARD: a .toml, .json or .txt file, a prompt in quotes, or - for standard input.

    Options override the storyboard; the storyboard overrides the model's defaults.
    """
    from holo_lite.runs.folder import RunFolder

    pipeline, options = opened(model, **said)
    job = pipeline.prepare(storyboard.board, options)
    if dry_run:
        show_job(pipeline, job)
        return
    if draft or seeds is not None:
        shown = partial(watch, pipeline, progress=progress)
        drafting = Drafting(pipeline, storyboard.stem, storyboard.board, options, job, out, shown, overwrite)
        drafting.one() if seeds is None else drafting.of_seeds(seeds, small=draft)
        return
    video = out or named_after(storyboard.stem, job.settings)
    if is_done(video, job.settings, overwrite=overwrite):
        return
    folder = RunFolder.beside(video)

    def begin() -> Events:
        events = pipeline.run(job, video, folder.path, keep_run=keep_run, cancel=token())
        return previewed(events, pipeline, video, preview, overwrite=overwrite)

    watch(pipeline, begin, folder, progress)
