"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from holo_lite.errors import SettingsError


def _cuts(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"--cuts '{text}': give frame numbers such as 49,97,145") from None


Command = Callable[..., Any]


def options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Options that several commands share, in the order in which help shows them."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


machine_options = options(
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option("--dtype", default="auto", show_default=True, help="auto, bf16 or fp32."),
)
timing_options = options(
    click.option("--frames", type=int, help="Length in frames; the nearest 4t+1 is made."),
    click.option("--cuts", callback=_cuts, help="First frame of every shot but the first, such as 49,97."),
    click.option("--fps", type=float, help="Frames per second of the video."),
)
picture_options = options(
    click.option("--height", type=int, help="In pixels, a multiple of 16."),
    click.option("--width", type=int, help="In pixels, a multiple of 16."),
    click.option("--steps", type=int, help="Denoising steps."),
    click.option(
        "--cfg", type=float, help="How strongly the prompt is followed; 1 leaves out the negative prompt."
    ),
)
profile_option = click.option(
    "--profile", default="auto", show_default=True, help="auto, a name that `profiles` lists, or a TOML file."
)
attention_option = click.option("--attention", help="sparse or full.  [default: that of the model's files]")
