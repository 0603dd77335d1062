"""`holo-lite config`: the defaults of options, and where they are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import click

from holo_lite.commands.helping import Command
from holo_lite.commands.telling import tell

NOT_SHOWN = "(set, and not shown)"
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
    file, commands = config_file(), context.parent.command.commands
    tell(f"config file    {file}{'' if file.exists() else ' (not there)'}")
    for name, value in sorted(os.environ.items()):
        if name.startswith(f"{PREFIX}_"):
            tell(f"environment    {name}={NOT_SHOWN if _is_secret(name, commands) else value}")
    found = read_defaults(commands)
    for name, values in found.items():
        tell(f"{name:14} {' '.join(_words(commands[name], values))}")
    if not file.exists():
        tell("for example")
        for line in EXAMPLE:
            tell(f"    {line}".rstrip())


def _words(command: click.Command, values: dict[str, object]) -> Iterator[str]:
    """Values as words of the command line."""
    names = {option.name: option.opts[0] for option in command.params}
    secret = _secrets(command)
    for name, value in values.items():
        for each in [NOT_SHOWN] if name in secret else value if isinstance(value, list) else [value]:
            if each is not False:
                yield names[name] if each is True else f"{names[name]}={each}"


def _secrets(command: click.Command) -> set[str]:
    """The names of a command's options whose values nobody else may see."""
    return {str(each.name) for each in command.params if isinstance(each, click.Option) and each.hide_input}


def _is_secret(variable: str, commands: Mapping[str, click.Command]) -> bool:
    """Whether a variable holds such a value, or was meant to: whatever stands before the option's name."""
    names = {name.upper() for command in commands.values() for name in _secrets(command)}
    return any(variable.upper().endswith(f"_{name}") for name in names)
