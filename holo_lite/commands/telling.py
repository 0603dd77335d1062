"""Saying something to a person."""

from __future__ import annotations

import click

from holo_lite.views.terminal import shown

NOBODY_READS = 128 + 13  # the exit code where standard output was closed, as shells have it for SIGPIPE


def tell(line: str, *, err: bool = False) -> None:
    """Write a line to standard output, or error; nothing in it can command a terminal."""
    try:
        click.echo(shown(line), err=err)
    except BrokenPipeError:
        raise SystemExit(NOBODY_READS) from None


def tell_text(text: str) -> None:
    """Write a text of several lines to standard output."""
    for line in text.split("\n"):
        tell(line)
