"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
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


def parse_lora_option(text: str) -> tuple[Path, float]:
    """Read ``FILE[:strength]``. A drive's colon, as in ``C:``, begins no strength. Raises `SettingsError`."""
    name, colon, tail = text.rpartition(":")
    if not colon or set(tail) & set("/\\") or (len(name) == 1 and name.isalpha()):
        name, tail = text, "1"
    try:
        strength = float(tail)
    except ValueError as error:
        raise SettingsError(f"'{text}': the strength '{tail}' is no number; write FILE or FILE:0.8") from error
    if not name or not math.isfinite(strength):
        raise SettingsError(f"'{text}': is no FILE or FILE:strength, as in high.safetensors:0.8")
    return Path(name), strength


def _adapters(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> dict[str, list[tuple[Path, float]]]:
    """Adapters by expert, from options such as high=FILE:0.8."""
    found: dict[str, list[tuple[Path, float]]] = {}
    for text in texts:
        noise, _sign, file = text.partition("=")
        if noise not in {"high", "low"} or not file:
            raise SettingsError(f"--lora '{text}': write high=FILE or low=FILE, with :STRENGTH behind it if not 1")
        found.setdefault(f"{noise}_noise", []).append(parse_lora_option(file))
    return found


EXPERTS = {"high": 0, "low": 1}


def parse_cache_option(text: str) -> tuple[float, float]:
    """Read ``THRESHOLD``, or ``high=THRESHOLD,low=THRESHOLD`` with either left out. Raises `SettingsError`."""
    found = [0.0, 0.0]
    try:
        if "=" not in text:
            return float(text), float(text)
        for part in text.split(","):
            noise, _sign, threshold = part.partition("=")
            found[EXPERTS[noise.strip()]] = float(threshold)
    except (KeyError, ValueError):
        raise SettingsError(f"--cache '{text}': write a threshold such as 0.1, or high=0.1,low=0.05") from None
    return found[0], found[1]


def _cache(_: click.Context, __: click.Parameter, text: str | None) -> tuple[float, float] | None:
    return parse_cache_option(text) if text is not None else None


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
saving_options = options(
    click.option(
        "--cache",
        callback=_cache,
        metavar="THRESHOLD",
        help="Skip steps that would change so little, such as 0.1 or high=0.1,low=0.05.  [default: off]",
    ),
    click.option("--cfg-until", type=float, help="Part of the schedule to guide, from its start.  [default: 1]"),
)
profile_option = click.option(
    "--profile", default="auto", show_default=True, help="auto, a name that `profiles` lists, or a TOML file."
)
computing_options = options(
    click.option("--kernel", default="auto", show_default=True, help="What computes attention: auto or a name."),
    click.option("--compute", default="auto", show_default=True, help="How matrices multiply: bf16, fp8 or int8."),
    click.option("--fuse", default="auto", show_default=True, help="Fused operations: auto, on or off."),
)
preview_option = click.option(
    "--preview",
    type=click.IntRange(min=0),
    metavar="STEPS",
    help="Draw where the run is heading after every so many steps; 0: never.  [default: 5 in a terminal, else 0]",
)
overwrite_option = click.option(
    "--overwrite", "--again", is_flag=True, help="Write over files that this run did not make."
)
keep_option = click.option(
    "--keep-run", is_flag=True, help="Leave the run's folder, VIDEO.run, when the video is finished."
)
progress_option = click.option(
    "--progress",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: an event a line, on standard output.",
)
attention_option = click.option("--attention", help="sparse or full.  [default: that of the model's files]")
lora_option = click.option(
    "--lora", "loras", multiple=True, callback=_adapters, help="high=FILE[:STRENGTH] or low=…; repeatable."
)
model_option = click.option(
    "--model", type=click.Path(path_type=Path), help="Folder with the model's files.  [default: built in]"
)
run_options = options(
    timing_options,
    picture_options,
    saving_options,
    click.option("--seed", type=int, help="The same seed and settings give the same video.  [default: 0]"),
    click.option("--negative", help="What should not be seen.  [default: the model's published one]"),
    attention_option,
    lora_option,
    profile_option,
    machine_options,
    computing_options,
)
