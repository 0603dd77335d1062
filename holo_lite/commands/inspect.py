"""`holo-lite inspect`: show what a file or folder is."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
def inspect(path: Path) -> None:
    """Show what PATH is: a checkpoint, a model folder, a storyboard or a video.

    For a video, prints the storyboard and command that reproduce it.
    """
    from holo_lite.views.inspection import inspect as describe

    for line in describe(path):
        click.echo(line)
