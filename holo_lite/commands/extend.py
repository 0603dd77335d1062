"""`holo-lite extend`: the story of a video goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from holo_lite.commands import values
from holo_lite.commands.directing import directing_options, make
from holo_lite.commands.helping import Command
from holo_lite.commands.options import image_option
from holo_lite.commands.storyboards import GivenStoryboard, storyboard_argument, with_images
from holo_lite.commands.telling import note


@click.command(cls=Command, short_help="Continue a video with new shots that remember it.")
@click.argument("video", type=click.Path(path_type=Path))
@storyboard_argument
@image_option
@click.option(
    "--remember",
    callback=values.read_numbers,
    metavar="NUMBERS",
    help="Shots of VIDEO to remember, such as 1,4.  [default: all that fit]",
)
@click.option("--join", is_flag=True, help="Write old and new as one video.")
@directing_options
def extend(
    video: Path,
    storyboard: GivenStoryboard,
    images: dict[int, str],
    remember: tuple[int, ...] | None,
    join: bool,
    **said: Any,
) -> None:
    """Continue VIDEO with the shots of STORYBOARD: characters and places stay as they were.

    The model sees the beginning of every old shot while it makes the new ones. The video's own options are the
    defaults.
    """
    from holo_lite.directing.extension import Extension

    film = Extension(video, with_images(storyboard, images).board, remember)
    made = make(film, video, f"{video.stem}-{storyboard.stem}", **said)
    if join and made is not None:
        from holo_lite.directing.joined import join as put_before

        put_before(video, made)
        note(f"joined         {made}")
