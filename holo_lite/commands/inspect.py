"""`holo-lite inspect`: show what a file or folder is."""

from __future__ import annotations

from pathlib import Path

import click

from holo_lite.commands.helping import Command
from holo_lite.commands.options import attention_option
from holo_lite.commands.telling import tell


@click.command(cls=Command, short_help="Show what a file or folder is.")
@click.argument("path", type=click.Path(path_type=Path))
@attention_option
def inspect(path: Path, attention: str | None) -> None:
    """Show what PATH is: a checkpoint, a model folder, a storyboard or a video.

    For a video, prints the storyboard and command that reproduce it.
    """
    from holo_lite.settings import check_attention
    from holo_lite.views.inspection import inspect as describe

    variant = check_attention(attention) if attention is not None else None
    for line in describe(path, variant):
        tell(line)
