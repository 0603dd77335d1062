"""`holo-lite demo`: the built-in model renders its own storyboard."""

from __future__ import annotations

from pathlib import Path

import click

from holo_lite.commands.helping import Command
from holo_lite.commands.options import machine_options
from holo_lite.commands.shared import load, run
from holo_lite.commands.talking import talking_options
from holo_lite.commands.telling import tell


@click.command(cls=Command, short_help="Make a first video with the built-in model.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder to write into.",
)
@machine_options
@talking_options
def demo(out: Path, device: str, dtype: str) -> None:
    """Make a video of five shots and its contact sheet with the built-in model, holo-tiny."""
    from holo_lite.opening.options import ModelOptions
    from holo_lite.runs.own import refuse_another_video
    from holo_lite.settings import Options
    from holo_lite.tiny.demo import asked, storyboard

    board = storyboard()
    pipeline, video = load(None, ModelOptions(device=device, dtype=dtype)), out / "demo.mp4"
    refuse_another_video(video, pipeline.prepare(board).settings)
    run(pipeline, board, video, Options())
    tell("asked for:")
    for line in asked(board):
        tell(line)
