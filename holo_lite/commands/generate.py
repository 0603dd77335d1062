"""`holo-lite generate`: a storyboard becomes a video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from holo_lite.commands.helping import Command
from holo_lite.commands.making import Making, Wishes
from holo_lite.commands.options import (
    image_option,
    keep_option,
    latents_option,
    model_option,
    out_option,
    overwrite_option,
    preview_option,
    progress_option,
    run_options,
)
from holo_lite.commands.shared import opened
from holo_lite.commands.storyboards import GivenStoryboard, storyboard_argument, with_images
from holo_lite.commands.talking import talking_options


@click.command(cls=Command, short_help="Make a video from a storyboard.")
@storyboard_argument
@image_option
@model_option
@out_option
@run_options
@click.option(
    "--draft", is_flag=True, help="Use a quarter of the steps and half the size, to check cuts and framing."
)
@click.option("--seeds", metavar="NUMBERS", help="Make drafts to choose from: how many, or a list such as 1,5,9.")
@overwrite_option
@latents_option
@preview_option
@keep_option
@click.option("--dry-run", is_flag=True, help="Show what would be made, and how; make nothing.")
@progress_option
@talking_options
def generate(
    storyboard: GivenStoryboard,
    images: dict[int, str],
    model: Path | None,
    out: Path | None,
    draft: bool,
    seeds: str | None,
    overwrite: bool,
    latents: bool,
    preview: int | None,
    keep_run: bool,
    dry_run: bool,
    progress: str,
    **said: Any,
) -> None:
    """Make a video from STORYBOARD: a .toml, .json or .txt file, a prompt in quotes, or - for standard input.

    Options override the storyboard; the storyboard overrides the model's defaults.
    """
    storyboard = with_images(storyboard, images)
    pipeline, options = opened(model, **said)
    wishes = Wishes(out, overwrite, preview, keep_run, latents, progress)
    source = Path(storyboard.board.source or storyboard.stem)
    making = Making(pipeline, storyboard.board, options, storyboard.stem, source, wishes)
    if dry_run:
        making.show()
    elif draft or seeds is not None:
        making.drafts(seeds, small=draft)
    else:
        making.full()
