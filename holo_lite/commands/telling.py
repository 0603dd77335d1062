"""Saying something to a person."""

from __future__ import annotations

import click

from holo_lite.views.terminal import shown

QUIET = "holo_lite.quiet"  # in a context where --quiet was given
NOBODY_READS = 128 + 13  # the exit code where standard output was closed, as shells have it for SIGPIPE


def tell(line: str, *, err: bool = False) -> None:
    """Write a line to standard output, or error; nothing in it can command a terminal."""
    try:
        click.echo(shown(line), err=err)
    except BrokenPipeError:
        raise SystemExit(NOBODY_READS) from None


def note(line: str) -> None:
    """Write a line to standard error, unless --quiet was given."""
    context = click.get_current_context(silent=True)
    if not (context and context.meta.get(QUIET)):
        tell(line, err=True)


def tell_text(text: str) -> None:
    """Write a text of several lines to standard output."""
    for line in text.split("\n"):
        tell(line)
