"""Inputs that several nodes have."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .seeds import LARGEST_SEED, MOST_SEEDS
from .wires import FILM


def size_inputs() -> list[Any]:
    """Size and steps; 0 is the model's own everywhere."""
    size = {"default": 0, "min": 0, "max": 4096, "step": 16}
    return [
        io.Int.Input("width", **size, tooltip="Pixels, a multiple of 16. 0: the model's own."),
        io.Int.Input("height", **size, tooltip="Pixels, a multiple of 16. 0: the model's own."),
        io.Int.Input("steps", default=0, min=0, max=1000, tooltip="Denoising steps. 0: the model's own."),
    ]


def seed_input(tooltip: str, default: int = 0) -> Any:
    """The seed, with ComfyUI's control of what it becomes."""
    low = min(default, 0)
    return io.Int.Input(
        "seed", default=default, min=low, max=LARGEST_SEED, control_after_generate=True, tooltip=tooltip
    )


def watching_inputs() -> list[Any]:
    """What does not change the pixels of a film."""
    return [
        io.Int.Input(
            "preview_every",
            default=1,
            min=0,
            max=1000,
            tooltip="Steps between two previews on this node. 0: none.",
        ),
        io.String.Input(
            "name", default="holocine", tooltip="How the video's file begins; it is in output/holocine."
        ),
        io.Int.Input(
            "seeds",
            default=1,
            min=1,
            max=MOST_SEEDS,
            optional=True,
            tooltip="How many films: one of the seed, and of those that follow it. Every output is a list of them.",
        ),
    ]


def film_outputs() -> list[Any]:
    """What every node that makes a film has: lists with one of each for every seed."""
    told = {"is_output_list": True}
    return [
        io.Image.Output(display_name="frames", tooltip="All frames, without the loss of a video.", **told),
        io.Video.Output(display_name="video", tooltip="The mp4.", **told),
        io.Image.Output(display_name="sheet", tooltip="The contact sheet: one row a shot.", **told),
        FILM.Output(display_name="film", tooltip="For HoloCine Retake and HoloCine Extend.", **told),
        io.String.Output(display_name="settings", tooltip="All that determines the video, as JSON.", **told),
    ]
