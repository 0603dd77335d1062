"""`holo-lite check`: a storyboard's timeline, and what may go wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from holo_lite.commands.helping import Command
from holo_lite.commands.options import attention_option, timing_options
from holo_lite.commands.storyboards import GivenStoryboard, storyboard_argument
from holo_lite.commands.telling import tell

if TYPE_CHECKING:
    from holo_lite.preflight.check import CheckReport

FOUND = 1
IN_A_PIPE = 100  # columns


@click.command(cls=Command, short_help="Draw a storyboard and look for mistakes.")
@storyboard_argument
@click.option(
    "--model", type=click.Path(path_type=Path), help="Folder of the model that will read it, to count tokens."
)
@click.option("--tokenizer", type=click.Path(path_type=Path), help="Count tokens with this tokenizer.json instead.")
@timing_options
@attention_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of the drawing.")
def check(
    storyboard: GivenStoryboard,
    model: Path | None,
    tokenizer: Path | None,
    *,
    as_json: bool,
    attention: str | None,
    **said: Any,
) -> None:
    """Draw the timeline of STORYBOARD and show what may go wrong with it. Reads no weights.

    The exit code is 0 if nothing or only notes are found, 1 if more is, 2 if no video can be made of it.
    """
    from holo_lite.config import Attention, published
    from holo_lite.preflight.check import check_storyboard, named_model, tokenizer_of
    from holo_lite.settings import Options, check_attention
    from holo_lite.text.windows import read_prompt

    variant = check_attention(attention) if attention is not None else None
    board, folder = storyboard.board, named_model(model, variant)
    words = tokenizer_of(folder, tokenizer)
    kind: Attention = folder.attention if folder else variant or "sparse"
    defaults = folder.defaults if folder else published(kind)
    report = check_storyboard(board, Options(**said), defaults=defaults, tokenizer=words, attention=kind)
    show(report, as_json=as_json)
    if words:
        read_prompt(
            board.untagged if kind == "wan" else board.prompt, words
        )  # refuses prompts that are too long, with every other command's message
    if any(not found.is_note for found in report.findings):
        click.get_current_context().exit(FOUND)


def show(report: CheckReport, *, as_json: bool) -> None:
    """Print a report, drawn to the width of the terminal, or as JSON."""
    from holo_lite.views.check import report_lines

    if as_json:
        tell(report.to_json())
        return
    console = Console(highlight=False)
    for line in report_lines(report, console.width if console.is_terminal else IN_A_PIPE):
        console.print(line, soft_wrap=True)
