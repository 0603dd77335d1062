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
        raise SettingsError(f"'{text}': the strength '{tail}' is not a number; write FILE or FILE:0.8") from error
    if not name or not math.isfinite(strength):
        raise SettingsError(f"'{text}': must be FILE or FILE:STRENGTH, such as high.safetensors:0.8")
    return Path(name), strength


def _adapters(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> dict[str, list[tuple[Path, float]]]:
    """Adapters by expert, from options such as high=FILE:0.8."""
    found: dict[str, list[tuple[Path, float]]] = {}
    for text in texts:
        noise, _sign, file = text.partition("=")
        if noise not in {"high", "low"} or not file:
            raise SettingsError(f"--lora '{text}': write high=FILE or low=FILE, then :STRENGTH if it is not 1")
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
    """Options that several commands share, in the order in which the help shows them."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


machine_options = options(
    click.option("--device", default="auto", show_default=True, help="Compute on: auto, cpu, cuda or cuda:N."),
    click.option("--dtype", default="auto", show_default=True, help="Number format: auto, bf16 or fp32."),
)
timing_options = options(
    click.option("--frames", type=int, help="Length in frames, rounded to 1, 5, 9, 13, …"),
    click.option("--cuts", callback=_cuts, help="First frame of every shot except the first, such as 49,97."),
    click.option("--fps", type=float, help="Frames per second of the video."),
)
picture_options = options(
    click.option("--height", type=int, help="Height in pixels, a multiple of 16."),
    click.option("--width", type=int, help="Width in pixels, a multiple of 16."),
    click.option("--steps", type=int, help="Number of denoising steps."),
    click.option(
        "--cfg", type=float, help="Guidance scale: how strongly to follow the prompt; 1 turns guidance off."
    ),
)
saving_options = options(
    click.option(
        "--cache",
        callback=_cache,
        metavar="THRESHOLD",
        help="Skip steps whose result would change by less than this share (0.1), or per expert: "
        "high=0.1,low=0.05.  [default: off]",
    ),
    click.option(
        "--cfg-until",
        type=float,
        help="Use guidance only in the first part of the steps (0.5: first half).  [default: 1]",
    ),
)
profile_option = click.option(
    "--profile",
    default="auto",
    show_default=True,
    help="Memory budget: auto, a name from `profiles`, or a TOML file.",
)
computing_options = options(
    click.option(
        "--kernel", default="auto", show_default=True, help="Attention kernel: auto, or a name such as sdpa."
    ),
    click.option(
        "--compute",
        default="auto",
        show_default=True,
        help="Number format of matrix products: auto, bf16, fp8 or int8. On a card, auto takes the format of 8-bit "
        "weights, which rounds activations too; bf16 does not round them.",
    ),
    click.option("--fuse", default="auto", show_default=True, help="Fuse small operations: auto, on or off."),
)
preview_option = click.option(
    "--preview",
    type=click.IntRange(min=0),
    metavar="STEPS",
    help="Draw a preview after every STEPS steps; 0: never.  [default: 5 in a terminal, else 0]",
)
overwrite_option = click.option(
    "--overwrite", "--again", is_flag=True, help="Write over files that this run did not make."
)
keep_option = click.option(
    "--keep-run", is_flag=True, help="Keep the run's folder, VIDEO.run, when the video is finished."
)
progress_option = click.option(
    "--progress",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: one event per line, on standard output.",
)
attention_option = click.option(
    "--attention", help="Variant: sparse or full.  [default: that of the model's files]"
)
lora_option = click.option(
    "--lora",
    "loras",
    multiple=True,
    callback=_adapters,
    help="Add an adapter to an expert: high=FILE[:STRENGTH] or low=…; repeatable.",
)
model_option = click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Folder with the model's files.  [default: holo-tiny, built in]",
)
run_options = options(
    timing_options,
    picture_options,
    saving_options,
    click.option("--seed", type=int, help="The same seed and settings give the same video.  [default: 0]"),
    click.option("--negative", help="What the video should not show.  [default: the model's published one]"),
    attention_option,
    lora_option,
    profile_option,
    machine_options,
    computing_options,
)
