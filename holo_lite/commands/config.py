"""`holo-lite config`: the defaults of options, and where they are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from holo_lite.commands.helping import Command
from holo_lite.commands.telling import tell

EXAMPLE = ('model = "~/models/holocine-nf4"', "", "[generate]", 'profile = "12gb"')


@click.command(cls=Command, short_help="Show your defaults and their file.")
@click.pass_context
def config(context: click.Context) -> None:
    """Show the defaults you have set, and the file they are in.

    Write the file yourself: TOML, an option's name = a value; a table such as [generate] is for one command.
    """
    from holo_lite.commands.defaults import PREFIX, config_file, read_defaults

    assert context.parent is not None
    assert isinstance(context.parent.command, click.Group)
    file = config_file()
    tell(f"config file    {file}{'' if file.exists() else ' (not there)'}")
    for name, value in sorted(os.environ.items()):
        if name.startswith(f"{PREFIX}_"):
            tell(f"environment    {name}={value}")
    found = read_defaults(context.parent.command.commands)
    for name, values in found.items():
        tell(f"{name:14} {' '.join(_words(context.parent.command.commands[name], values))}")
    if not file.exists():
        tell("for example")
        for line in EXAMPLE:
            tell(f"    {line}".rstrip())


def _words(command: click.Command, values: dict[str, object]) -> Iterator[str]:
    """Values as words of the command line."""
    names = {option.name: option.opts[0] for option in command.params}
    for name, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            if each is not False:
                yield names[name] if each is True else f"{names[name]}={each}"
