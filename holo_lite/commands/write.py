"""`holo-lite write`: a language model writes a storyboard of an idea."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holo_lite.commands.check import FOUND
from holo_lite.commands.endpoints import endpoint_options, given_endpoint
from holo_lite.commands.helping import Command
from holo_lite.commands.options import overwrite_option
from holo_lite.commands.stopping import token
from holo_lite.commands.talking import messages, talking_options
from holo_lite.commands.telling import note, tell_text
from holo_lite.errors import OutputError, SettingsError
from holo_lite.views.terminal import shown, typed

if TYPE_CHECKING:
    from holo_lite.writing.events import StoryboardWritten
    from holo_lite.writing.writing import Events

SUFFIX = ".toml"


@click.command(cls=Command, short_help="Have a language model write a storyboard.")
@click.argument("idea")
@click.option("--shots", type=int, default=5, show_default=True, metavar="N", help="How many shots.")
@click.option("--seconds", type=float, default=15.0, show_default=True, help="Length of the video.")
@endpoint_options
@click.option("--timeout", type=float, default=600.0, show_default=True, help="Seconds after which it gives up.")
@click.option(
    "--model", type=click.Path(path_type=Path), help="Folder of the model that will read it, to count tokens."
)
@click.option("--tokenizer", type=click.Path(path_type=Path), help="Count tokens with this tokenizer.json instead.")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="The storyboard to write.  [default: standard output]",
)
@overwrite_option
@talking_options
@click.pass_context
def write(
    context: click.Context,
    /,
    idea: str,
    shots: int,
    seconds: float,
    endpoint: str | None,
    llm: str | None,
    key: str | None,
    timeout: float,
    model: Path | None,
    tokenizer: Path | None,
    out: Path | None,
    *,
    overwrite: bool,
) -> None:
    """Have a language model on your machine, or elsewhere, write a storyboard of IDEA.

    What `check` finds in it goes back to the language model, which has three tries. Only the idea, the wanted shots
    and length, and its own answer with what was found are sent, to the address that is shown before. The exit code
    is 1 if something remains.
    """
    from holo_lite.preflight.check import named_model, tokenizer_of
    from holo_lite.writing.writing import write_storyboard

    where = given_endpoint(context, endpoint, llm, key)
    _check_place(out, overwrite=overwrite)
    words = tokenizer_of(None if tokenizer else named_model(model), tokenizer)
    written = _watch(write_storyboard(idea, shots, seconds, where, words, token(), timeout=timeout))
    _keep(written, idea, out)
    if written.found:
        context.exit(FOUND)


def _check_place(out: Path | None, *, overwrite: bool) -> None:
    """Raise `SettingsError` for a name that no storyboard has, `OutputError` for a file that is there."""
    if out is None:
        return
    if out.suffix.lower() != SUFFIX:
        raise SettingsError(f"--out {out}: a storyboard is a {SUFFIX} file; name one")
    if out.exists() and not overwrite:
        raise OutputError(f"{out}: is there already; name another file, or add --overwrite")


def _watch(events: Events) -> StoryboardWritten:
    """Show what happens, and give the last event."""
    from holo_lite.views.display import display
    from holo_lite.views.writing import WritingView
    from holo_lite.writing.events import StoryboardWritten

    last = None
    with closing(events), display(messages()) as screen:
        view = WritingView(screen)
        for last in events:
            view.show(last)
    assert isinstance(last, StoryboardWritten), "it ends with the storyboard, or raises"
    return last


def _keep(written: StoryboardWritten, idea: str, out: Path | None) -> None:
    """Draw the storyboard, and write it to its file or standard output."""
    from holo_lite.story.files import dump_toml
    from holo_lite.system.outputs import write_output
    from holo_lite.views.check import report_lines

    console = messages()
    for line in report_lines(written.report, console.width):
        console.print(line, soft_wrap=True, highlight=False)
    text = f"# The idea: {shown(' '.join(idea.split()))}\n\n{dump_toml(written.board)}"
    if out is None:
        tell_text(text.rstrip("\n"))
        return
    write_output(out, text.encode())
    note(f"storyboard     {out}")
    note(f"next           {typed(['holo-lite', 'plan', str(out)])}")
