"""`holo-lite plan`: what a run would need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from holo_lite.commands.options import (
    attention_option,
    lora_option,
    picture_options,
    profile_option,
    saving_options,
    timing_options,
)


@click.command()
@click.argument("storyboard")
@click.option(
    "--model", type=click.Path(path_type=Path), help="Folder with the model's files.  [default: HoloCine-14B]"
)
@profile_option
@click.option("--gpu", help="A card to plan for instead of this machine, such as 'RTX 4090'.")
@timing_options
@picture_options
@saving_options
@attention_option
@lora_option
def plan(storyboard: str, model: Path | None, profile: str, gpu: str | None, loras: Any, **said: Any) -> None:
    """Say what a run of STORYBOARD would need, how long it may take, and what else would fit.

    Needs no graphics card and loads no weights.
    """
    from holo_lite.places import cache_folder
    from holo_lite.plan.machine import this_machine
    from holo_lite.plan.report import report
    from holo_lite.plan.view import report_lines
    from holo_lite.settings import Options, check_attention
    from holo_lite.story.files import load_storyboard

    attention = check_attention(said["attention"]) if said["attention"] is not None else None
    options = Options(**{**said, "attention": attention})
    found = report(
        load_storyboard(storyboard),
        options,
        this_machine(),
        model=model,
        profile=profile,
        gpu=gpu,
        lora=loras,
        rates=cache_folder(),
    )
    for line in report_lines(found):
        click.echo(line)
