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
    """Show what PATH is, and what to do with it.

    It knows storyboards, videos, run folders, models and their parts, checkpoints, LoRAs, latents, tokenizers,
    profiles and recipes. For a video, prints the storyboard and command that reproduce it.
    """
    from holo_lite.inspection.describe import inspect as describe
    from holo_lite.settings import check_attention

    variant = check_attention(attention) if attention is not None else None
    for line in list(describe(path, variant)):  # all or nothing: what is broken ends in one line
        tell(line)
