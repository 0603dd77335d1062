"""What commands that make videos share: opening a model, showing a run, naming files."""

from __future__ import annotations

import os
from contextlib import closing
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from holo_lite.pipeline import Pipeline
    from holo_lite.story.storyboard import Storyboard

TINY_NOTICE = (
    "No --model was given: this is holo-tiny, built in. It goes the whole way of the real model, but knows only "
    "coloured shapes before a wall, as `holo-lite demo` tells them. README.md says how to get the real weights."
)


def load(model: Path | None, **options: Any) -> Pipeline:
    """Open a model with options of `Pipeline.load`."""
    from holo_lite.pipeline import Pipeline

    return Pipeline.load(model, **options)


def run(pipeline: Pipeline, board: Storyboard, out: Path, options: Any) -> None:
    """Make a video and show how it goes."""
    import torch

    from holo_lite.console import display, show

    with closing(pipeline.generate(board, out, options)) as events, display(Console(stderr=True)) as view:
        if pipeline.is_tiny:
            view.say(TINY_NOTICE)
            torch.set_num_threads(1)  # its tensors are so small that threads only wait for each other
        for event in events:
            show(event, view)


def named_after(storyboard: str) -> Path:
    """video.mp4 for a prompt, else the storyboard's own name, in the folder one stands in.

    Numbered where a video or picture of that name is there: what took hours is not written over unasked.
    """
    return free(Path(storyboard).stem if os.path.isfile(storyboard) else "video", ".mp4")


def free(stem: str, suffix: str) -> Path:
    """The first of stem, stem-2, stem-3, … that neither a file with this suffix nor a picture bears."""
    names = chain([Path(f"{stem}{suffix}")], (Path(f"{stem}-{number}{suffix}") for number in count(2)))
    return next(name for name in names if not (name.exists() or name.with_suffix(".png").exists()))
