"""`holo-lite retake`: some shots of a video again, all others as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from holo_lite.commands.directing import directing_options, make
from holo_lite.commands.helping import Command
from holo_lite.errors import SettingsError

AGAIN = "holo_lite.again"  # where a context keeps which shots are made again
SHOT, CAPTION = "--shot", "--caption"


class RetakeCommand(Command):
    """A command in which every --caption belongs to the --shot before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep how the two options alternate, which click does not."""
        ctx.meta[AGAIN] = alternating(args)
        return super().parse_args(ctx, args)


def alternating(words: Sequence[str]) -> dict[str, str | None]:
    """The shots named, as they are typed, each with the caption that follows it. Raises `SettingsError`."""
    found: dict[str, str | None] = {}
    last = ""
    for name, value in _said(words):
        if name == SHOT:
            last = value
            found.setdefault(last, None)
        elif not found:
            raise SettingsError("--caption comes before any --shot; write it after the shot that it is for")
        elif found[last] is not None:
            raise SettingsError(f"shot {last} has two captions; keep one")
        else:
            found[last] = value
    return found


def _said(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The values of the two options, in their order; of what is missing, click speaks."""
    left = iter(words)
    for word in left:
        name, joined, value = word.partition("=")
        if name in {SHOT, CAPTION}:
            yield name, value if joined else next(left, "")


@click.command(cls=RetakeCommand, short_help="Make shots of a video again; all others stay.")
@click.argument("video", type=click.Path(path_type=Path))
@click.option(SHOT, "shots", multiple=True, metavar="N", help="A shot to make again; repeatable.")
@click.option(CAPTION, "captions", multiple=True, metavar="TEXT", help="What the --shot before it shows now.")
@directing_options
@click.pass_context
def retake(ctx: click.Context, /, video: Path, shots: Sequence[str], captions: Sequence[str], **said: Any) -> None:
    """Make shots of VIDEO again: all other shots stay, and the new ones are made to match them.

    Without a new caption or --seed, the next seed is used. The video's own options are the defaults.
    """
    from holo_lite.directing.retake import Retake

    assert len(captions) <= len(shots), "every caption follows a shot of its own"
    again = {_number(shot): caption for shot, caption in ctx.meta[AGAIN].items()}
    make(Retake(video, again), video, f"{video.stem}-retake", **said)


def _number(text: str) -> int:
    """The number of a shot. Raises `SettingsError`."""
    if not (text.isascii() and text.isdigit()):
        raise SettingsError(f"--shot '{text}': give the number of one shot, and --shot again for another")
    return int(text)
