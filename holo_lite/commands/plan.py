"""`holo-lite plan`: show what a run would need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from holo_lite.commands.helping import Command
from holo_lite.commands.options import run_options
from holo_lite.commands.shared import OPENING
from holo_lite.commands.storyboards import GivenStoryboard, storyboard_argument
from holo_lite.commands.telling import tell


@click.command(cls=Command, short_help="Show what a run needs and how long it takes.")
@storyboard_argument
@click.option(
    "--model", type=click.Path(path_type=Path), help="Folder with the model's files.  [default: HoloCine-14B]"
)
@click.option("--gpu", help="Plan for this card instead of this machine, such as 'RTX 4090'.")
@run_options
def plan(storyboard: GivenStoryboard, model: Path | None, gpu: str | None, loras: Any, **said: Any) -> None:
    """Show what a run of STORYBOARD would need, how long it may take, and what else would fit.

    Accepts the options of `generate`. Needs no graphics card and loads no weights.
    """
    from holo_lite.opening.options import ModelOptions
    from holo_lite.preflight.forecast import forecast
    from holo_lite.preflight.target import ForecastPlace
    from holo_lite.settings import Options, check_attention
    from holo_lite.views.forecast import forecast_lines

    attention = check_attention(said["attention"]) if said["attention"] is not None else None
    how = ModelOptions(lora=loras, **{name: said.pop(name) for name in OPENING})
    options = Options(**{**said, "attention": attention})
    for line in forecast_lines(forecast(storyboard.board, options, model, how, ForecastPlace(gpu))):
        tell(line)
