"""Defaults of options that a person keeps in a file.

    model = "~/models/holocine-nf4"    # for every command that has --model
    [generate]                         # for this command alone
    steps = 40

A key is an option's long name. The command line goes before the environment, which goes before this file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from holo_lite.errors import SettingsError, nearest
from holo_lite.reading.files import read_text
from holo_lite.reading.trees import parse_toml
from holo_lite.system.cache_folder import expanded

CONFIG_VARIABLE = "HOLO_LITE_CONFIG"
MODEL_VARIABLE = "HOLO_LITE_MODEL"
PREFIX = "HOLO_LITE"  # of the variables for every option: HOLO_LITE_GENERATE_STEPS
Defaults = dict[str, dict[str, Any]]  # values by command and parameter, as click takes them


def config_file() -> Path:
    """The file of defaults: ``$HOLO_LITE_CONFIG``, or config.toml in the system's place. It need not exist."""
    from platformdirs import user_config_path

    chosen = os.environ.get(CONFIG_VARIABLE)
    return expanded(chosen) if chosen else user_config_path("holo-lite") / "config.toml"


def read_defaults(commands: Mapping[str, click.Command]) -> Defaults:
    """Defaults of each command, from the environment and the file. Raises `SettingsError`, which names the file."""
    found = _from_file(config_file(), commands)
    if model := os.environ.get(MODEL_VARIABLE):
        for name, command in commands.items():
            if "model" in _options(command):
                found.setdefault(name, {})["model"] = model
    return found


def _from_file(path: Path, commands: Mapping[str, click.Command]) -> Defaults:
    found: Defaults = {}
    for key, value in _table(path).items():
        if isinstance(value, dict) and key in commands:
            continue
        having = {name: each for name, each in commands.items() if _spelt(key) in _options(each)}
        if not having:
            every = {*commands, *(option for each in commands.values() for option in _options(each))}
            raise SettingsError(f"{path}: no command has an option '{key}'{nearest(key, every)}")
        for name, command in having.items():
            _put(path, found, name, command, key, value)
    for name, command, key, value in _of_commands(path, commands):
        _put(path, found, name, command, key, value)
    return found


def _of_commands(
    path: Path, commands: Mapping[str, click.Command]
) -> Iterator[tuple[str, click.Command, str, object]]:
    """What is given for one command each."""
    for name, values in _table(path).items():
        if not isinstance(values, dict) or name not in commands:
            continue
        for key, value in values.items():
            known = _options(commands[name])
            if _spelt(key) not in known:
                raise SettingsError(f"{path}: {name} has no option '{key}'{nearest(key, known)}")
            yield name, commands[name], key, value


def _table(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(read_text(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror or error}); check it") from error
    except ValueError as error:
        raise SettingsError(f"{path}: is not valid TOML: {error}; fix that line") from error


def _put(path: Path, found: Defaults, name: str, command: click.Command, key: str, value: object) -> None:
    option = _options(command)[_spelt(key)]
    found.setdefault(name, {})[str(option.name)] = _value(path, command, option, value)


def _value(path: Path, command: click.Command, option: click.Option, value: object) -> object:
    """A value as click takes it. Raises `SettingsError` for one that the option cannot have."""
    fits = isinstance(value, bool) if option.is_flag else isinstance(value, str | int | float)
    if option.multiple:
        fits = isinstance(value, list) and all(isinstance(each, str) for each in value)
    if not fits:
        wanted = (
            "true or false" if option.is_flag else "a list of texts" if option.multiple else "a text or a number"
        )
        raise SettingsError(f"{path}: {option.opts[0]}: give {wanted}")
    if isinstance(option.type, click.Path):
        value = str(path.parent / expanded(str(value)))
    try:
        option.type_cast_value(click.Context(command), value)
    except click.BadParameter as error:
        raise SettingsError(f"{path}: {option.opts[0]}: {error.message}") from None
    return value


def _options(command: click.Command) -> dict[str, click.Option]:
    """A command's options by their long names, as the file spells them."""
    return {
        name[2:]: each
        for each in command.params
        if isinstance(each, click.Option)
        for name in each.opts
        if name.startswith("--")
    }


def _spelt(key: str) -> str:
    return key.replace("_", "-")
