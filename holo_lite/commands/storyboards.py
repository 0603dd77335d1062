"""The storyboard a command is given: a file, a prompt, or what comes on standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holo_lite.commands.helping import option
from holo_lite.errors import StoryboardError

if TYPE_CHECKING:
    from holo_lite.story.storyboard import Storyboard

PROMPT = "holo_lite.prompt"  # where a context keeps what --prompt gave
INPUT, INPUT_NAME = "-", "standard input"
NAMELESS = "video"  # what files made of a prompt are named by


@dataclass(frozen=True)
class GivenStoryboard:
    """A storyboard, and what files made of it are named by."""

    board: Storyboard
    stem: str


def storyboard_argument(command: Any) -> Any:
    """The argument STORYBOARD, and --prompt, which can take its place."""
    prompt = option(
        "--prompt",
        metavar="TEXT",
        is_eager=True,
        expose_value=False,
        callback=_keep,
        help="A prompt, in place of STORYBOARD.",
    )
    return click.argument("storyboard", required=False, callback=_given)(prompt(command))


def with_images(given: GivenStoryboard, images: Mapping[int, str]) -> GivenStoryboard:
    """The same storyboard, with pictures with which shots begin. Raises `StoryboardError`."""
    return replace(given, board=given.board.with_images(images))


def _keep(context: click.Context, _: click.Parameter, text: str | None) -> None:
    if text is not None:
        context.meta[PROMPT] = text


def _given(context: click.Context, _: click.Parameter, word: str | None) -> GivenStoryboard:
    """Raises `UsageError` for none or two, and `StoryboardError`."""
    from holo_lite.story.files import load_storyboard

    prompt = context.meta.get(PROMPT)
    if (word is None) == (prompt is None):
        context.fail("give one of STORYBOARD and --prompt." if word else "Missing argument 'STORYBOARD'.")
    if word is None:
        return GivenStoryboard(_prompt(str(prompt)), NAMELESS)
    if word == INPUT:
        return GivenStoryboard(_read(), NAMELESS)
    return GivenStoryboard(load_storyboard(word), Path(word).stem if os.path.isfile(word) else NAMELESS)


def _prompt(text: str) -> Storyboard:
    from holo_lite.story.storyboard import Storyboard, naming

    with naming("--prompt"):
        if not text.strip():
            raise StoryboardError("it is empty; write what should be seen")
        return Storyboard(None, (), raw=text.strip())


def _read() -> Storyboard:
    """The storyboard on standard input: JSON if it begins so, TOML if it is that, else a prompt."""
    from holo_lite.story.files import LARGEST_STORYBOARD, parse_text

    raw = sys.stdin.buffer.read(LARGEST_STORYBOARD + 1)
    if len(raw) > LARGEST_STORYBOARD:
        raise StoryboardError(
            f"{INPUT_NAME}: is too long for a storyboard; give at most {LARGEST_STORYBOARD} bytes"
        )
    try:
        return parse_text(raw.decode("utf-8-sig"), INPUT_NAME)
    except UnicodeDecodeError as error:
        raise StoryboardError(f"{INPUT_NAME}: byte {error.start} is not UTF-8; write it as UTF-8") from None
