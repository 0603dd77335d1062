"""`holo-lite generate`: a storyboard becomes a video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from holo_lite.commands.options import (
    attention_option,
    machine_options,
    picture_options,
    profile_option,
    timing_options,
)
from holo_lite.commands.running import load, named_after, run


@click.command()
@click.argument("storyboard")
@click.option(
    "--model", type=click.Path(path_type=Path), help="Folder with the model's files.  [default: built in]"
)
@click.option("--out", type=click.Path(path_type=Path), help="The mp4 to write.  [default: named after STORYBOARD]")
@timing_options
@picture_options
@click.option("--seed", type=int, help="The same seed and settings give the same video.  [default: 0]")
@click.option("--negative", help="What should not be seen.  [default: the model's published one]")
@attention_option
@profile_option
@machine_options
def generate(
    storyboard: str,
    model: Path | None,
    out: Path | None,
    device: str,
    dtype: str,
    profile: str,
    **said: Any,
) -> None:
    """Make a video of STORYBOARD: a .toml, .json or .txt file, or a prompt in quotes.

    What is said here goes before the storyboard, and that before the model's defaults.
    """
    from holo_lite.settings import Options, check_attention
    from holo_lite.story.files import load_storyboard

    attention = check_attention(said["attention"]) if said["attention"] is not None else None
    board = load_storyboard(storyboard)
    pipeline = load(model, device=device, dtype=dtype, attention=attention, profile=profile)
    run(pipeline, board, out or named_after(storyboard), Options(**{**said, "attention": attention}))
