"""`holo-lite help`: what --help shows, as many programs have it."""

from __future__ import annotations

import click

from holo_lite.commands.helping import Command
from holo_lite.commands.telling import tell_text


@click.command("help", cls=Command)
@click.argument("command", required=False)
@click.pass_context
def show_help(context: click.Context, command: str | None) -> None:
    """Show this page, or the help of COMMAND."""
    assert context.parent is not None
    program = context.parent.command
    assert isinstance(program, click.Group)
    if command is None:
        tell_text(context.parent.get_help())
        return
    _, found, _ = program.resolve_command(context.parent, [command])
    assert found is not None, "a name without a command is refused"
    with found.make_context(command, [], parent=context.parent, resilient_parsing=True) as its:
        tell_text(found.get_help(its))
