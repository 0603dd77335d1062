"""`holo-lite plan`: show what a run would need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from holo_lite.commands.helping import Command
from holo_lite.commands.options import image_option, run_options
from holo_lite.commands.shared import OPENING
from holo_lite.commands.storyboards import GivenStoryboard, storyboard_argument, with_images
from holo_lite.commands.telling import tell
from holo_lite.errors import FitError
from holo_lite.system.garbage import bringing_torch

if TYPE_CHECKING:
    from holo_lite.preflight.comparison import Outlook
    from holo_lite.preflight.together import TogetherForecast

IN_A_PIPE = 100  # columns
FITS_NOWHERE = 2


@click.command(cls=Command, short_help="Show what a run needs and how long it takes.")
@storyboard_argument
@image_option
@click.option(
    "--model", type=click.Path(path_type=Path), help="Folder with the model's files.  [default: HoloCine-14B]"
)
@click.option(
    "--gpu",
    multiple=True,
    help="Plan for this card instead of this machine, such as 'RTX 4090'; several are shown each, and together.",
)
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead, for a program.")
def plan(
    storyboard: GivenStoryboard,
    images: dict[int, str],
    model: Path | None,
    gpu: tuple[str, ...],
    loras: Any,
    *,
    as_json: bool,
    **said: Any,
) -> None:
    """Show whether a run of STORYBOARD fits, how long it may take, and what else would fit.

    Accepts the options of `generate`. Needs no graphics card and loads no weights. The exit code is 0 if it fits
    on at least one card, and 2 if it fits on none.
    """
    with bringing_torch():
        from holo_lite.opening.options import ModelOptions
        from holo_lite.preflight.comparison import compare
        from holo_lite.preflight.together import TogetherForecast, forecast_together
        from holo_lite.settings import Options, check_attention

    attention = check_attention(said["attention"]) if said["attention"] is not None else None
    how = ModelOptions(lora=loras, **{name: said.pop(name) for name in OPENING})
    options = Options(**{**said, "attention": attention})
    board = with_images(storyboard, images).board
    together = forecast_together(board, options, model, how, gpu)
    alone = () if together is not None and not gpu else compare(board, options, model, how, gpu)
    _show(alone, together, as_json=as_json)
    fits = isinstance(together, TogetherForecast) or any(outlook.forecast for outlook in alone)
    if not fits:
        click.get_current_context().exit(FITS_NOWHERE)


def _show(outlooks: Sequence[Outlook], together: TogetherForecast | FitError | None, *, as_json: bool) -> None:
    """Print a plan, a table of several, or either as JSON. Raises `FitError` where the only one does not fit."""
    from holo_lite.eventjson.plan_json import plan_json
    from holo_lite.views.comparison import comparison_lines
    from holo_lite.views.forecast import forecast_lines
    from holo_lite.views.together import together_lines

    console = Console(highlight=False)
    width = console.width if console.is_terminal else IN_A_PIPE
    if as_json:
        tell(json.dumps(plan_json(outlooks, together), ensure_ascii=False, allow_nan=False))
        return
    lines: Iterable[str]
    if together is not None:
        lines = chain(comparison_lines(outlooks, width), [""]) if len(outlooks) > 1 else ()
        lines = chain(lines, together_lines(together, width))
    elif len(outlooks) > 1:
        lines = comparison_lines(outlooks, width)
    elif isinstance(found := outlooks[0].found, FitError):
        raise found
    else:
        lines = forecast_lines(found, width)
    for line in lines:
        tell(line)
