"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from holo_lite.commands import values
from holo_lite.commands.helping import option
from holo_lite.commands.values import KERNELS, VARIANTS, Word

Command = Callable[..., Any]


def options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Options that several commands share, in the order in which the help shows them."""

    def add(command: Command) -> Command:
        for each in reversed(options):
            command = each(command)
        return command

    return add


device_option = option(
    "--device",
    type=Word("auto", "cpu", "cuda", more="cuda:N"),
    default="auto",
    help="Compute on.  [default: auto]",
)
machine_options = options(
    device_option,
    option("--dtype", type=Word("auto", "bf16", "fp32"), default="auto", help="Number format.  [default: auto]"),
)
devices_option = option(
    "--devices",
    callback=values.read_devices,
    metavar="LIST",
    help="Compute one video on several together, such as cuda:0,cuda:1; auto: all cards.  [default: one]",
)
timing_options = options(
    option("--frames", also=("--num-frames",), type=int, help="Length in frames, rounded to 1, 5, 9, 13, …"),
    option("--cuts", callback=values.read_cuts, help="First frame of every shot except the first, such as 49,97."),
    option("--fps", type=float, help="Frames per second of the video."),
)
picture_options = options(
    option(
        "--size",
        metavar="WIDTHxHEIGHT",
        is_eager=True,
        expose_value=False,
        callback=values.read_size,
        help="Size in pixels, such as 832x480; both multiples of 16.",
    ),
    option("--height", type=int, callback=values.read_side, help="Height in pixels, a multiple of 16."),
    option("--width", type=int, callback=values.read_side, help="Width in pixels, a multiple of 16."),
    option("--steps", also=("--num-inference-steps",), type=int, help="Number of denoising steps."),
    option(
        "--cfg",
        also=("--guidance-scale",),
        callback=values.read_cfg,
        metavar="SCALE",
        help="Guidance scale: how strongly to follow the prompt; 1 turns guidance off. Two, such as 4,3, are for "
        "the high-noise and the low-noise expert.",
    ),
    option("--shift", type=float, help="How far the schedule bends towards high noise.  [default: the model's]"),
)
saving_options = options(
    option(
        "--cache",
        callback=values.read_cache,
        metavar="THRESHOLD",
        help="Skip steps whose result would change by less than this share (0.1), or per expert: "
        "high=0.1,low=0.05.  [default: off]",
    ),
    option(
        "--cfg-until",
        type=float,
        help="Use guidance only in the first part of the steps (0.5: first half).  [default: 1]",
    ),
)
profile_option = option(
    "--profile",
    default="auto",
    metavar="NAME",
    shell_complete=values.complete_profiles,
    help="Memory budget: auto, a name from `profiles`, or a TOML file.  [default: auto]",
)
computing_options = options(
    option(
        "--kernel",
        type=Word(*KERNELS),
        metavar="NAME",
        default="auto",
        help=f"Attention kernel: {', '.join(KERNELS)}.  [default: auto]",
    ),
    option(
        "--compute",
        type=Word("auto", "bf16", "fp8", "int8"),
        default="auto",
        help="Number format of matrix products. On a card, auto takes the format of 8-bit weights, which rounds "
        "activations too; bf16 does not round them.  [default: auto]",
    ),
    option(
        "--fuse", type=Word("auto", "on", "off"), default="auto", help="Fuse small operations.  [default: auto]"
    ),
)
preview_option = option(
    "--preview",
    type=click.IntRange(min=0),
    metavar="STEPS",
    help="Draw a preview after every STEPS steps; 0: never.  [default: 5 in a terminal, else 0]",
)
overwrite_option = option(
    "--overwrite",
    also=("--again", "--yes", "-y"),
    is_flag=True,
    help="Write over files that this run did not make.",
)
latents_option = option(
    "--no-latents",
    "latents",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Do not keep VIDEO.latents.safetensors, from which shots can be made again.",
)
image_option = option(
    "--image",
    "images",
    multiple=True,
    callback=values.read_images,
    metavar="N=FILE",
    help="Begin shot N with this picture; repeatable.",
)
kappa_option = option(
    "--kappa",
    type=float,
    help="How noisy the model sees what is kept, from 0 to 1 (as noisy as the rest).  [default: 0.5]",
)
keep_option = option(
    "--keep-run", is_flag=True, help="Keep the run's folder, VIDEO.run, when the video is finished."
)
progress_option = option(
    "--progress",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: one event per line, on standard output.",
)
attention_option = option(
    "--attention", type=Word(*VARIANTS), help="Variant of the model.  [default: that of its files]"
)
lora_option = option(
    "--lora",
    "loras",
    multiple=True,
    callback=values.read_adapters,
    metavar="high=FILE[:STRENGTH]",
    help="Add an adapter to an expert, high=… or low=…; repeatable.",
)
model_option = option(
    "--model",
    type=click.Path(path_type=Path),
    help="Folder with the model's files.  [default: holo-tiny, built in]",
)
out_option = option(
    "--out",
    "-o",
    also=("--output",),
    type=click.Path(path_type=Path),
    help="The mp4 to write.  [default: named after STORYBOARD]",
)
run_options = options(
    timing_options,
    picture_options,
    saving_options,
    option("--seed", type=int, help="The same seed and settings give the same video.  [default: 0]"),
    option(
        "--negative",
        also=("--negative-prompt",),
        help="What the video should not show.  [default: the model's published one]",
    ),
    kappa_option,
    attention_option,
    lora_option,
    profile_option,
    machine_options,
    devices_option,
    computing_options,
)
