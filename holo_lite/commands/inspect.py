"""`holo-lite inspect`: what a file or folder is."""

from __future__ import annotations

from pathlib import Path

import click

from holo_lite.commands.telling import tell


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
def inspect(path: Path) -> None:
    """Say what PATH is: a checkpoint, a model folder, a storyboard or a video.

    Of a video it prints the storyboard and the command that make it again.
    """
    from holo_lite.views.inspection import inspect as describe

    for line in describe(path):
        tell(line)
