"""How much a command says: what it does and how far it is, or less, or more."""

from __future__ import annotations

import logging
from typing import Any

import click
from rich.console import Console

from holo_lite.commands.helping import option
from holo_lite.commands.telling import QUIET


def talking_options(command: Any) -> Any:
    """The options --quiet and --verbose."""
    quiet = option("--quiet", "-q", is_flag=True, expose_value=False, callback=_quiet, help="Print errors only.")
    verbose = option(
        "--verbose",
        "-v",
        is_flag=True,
        expose_value=False,
        callback=_verbose,
        help="Also print what is decided, and why.",
    )
    return quiet(verbose(command))


def messages() -> Console:
    """Where a command shows its progress: standard error, or nowhere with --quiet."""
    context = click.get_current_context(silent=True)
    return Console(stderr=True, quiet=bool(context and context.meta.get(QUIET)))


def _quiet(context: click.Context, _: click.Parameter, chosen: bool) -> None:
    if chosen:
        context.meta[QUIET] = True
        logging.getLogger("holo_lite").setLevel(logging.ERROR)


def _verbose(_: click.Context, __: click.Parameter, chosen: bool) -> None:
    if chosen:
        for name in ("holo_lite", "quantize"):
            logging.getLogger(name).setLevel(logging.DEBUG)
