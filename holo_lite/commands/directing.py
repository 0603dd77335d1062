"""What commands share that begin from a finished video: its model and its options are the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holo_lite.commands.making import Making, Wishes
from holo_lite.commands.options import (
    keep_option,
    latents_option,
    model_option,
    options,
    out_option,
    overwrite_option,
    preview_option,
    progress_option,
    run_options,
)
from holo_lite.commands.shared import opened
from holo_lite.commands.talking import talking_options
from holo_lite.errors import SettingsError

if TYPE_CHECKING:
    from holo_lite.directing.direction import AnyFilm
    from holo_lite.settings import RunSettings

directing_options = options(
    model_option,
    out_option,
    run_options,
    click.option(
        "--seeds", metavar="NUMBERS", help="Make drafts to choose from: how many, or a list such as 1,5,9."
    ),
    overwrite_option,
    latents_option,
    preview_option,
    keep_option,
    click.option("--dry-run", is_flag=True, help="Show what would be made, and how; make nothing."),
    progress_option,
    talking_options,
)
WISHES = ("out", "overwrite", "preview", "keep_run", "latents", "progress")


def make(film: AnyFilm, video: Path, stem: str, *, seeds: str | None, dry_run: bool, **said: Any) -> Path | None:
    """Make a film that begins from a finished video. Returns where it is, once it is made in full."""
    wishes = Wishes(**{name: said.pop(name) for name in WISHES})
    pipeline, chosen = opened(**_as_the_video(video, said))
    making = Making(pipeline, film, chosen, stem, video, wishes)
    if dry_run:
        making.show()
        return None
    if seeds is not None:
        making.drafts(seeds, small=False)
        return None
    return making.full()


def _as_the_video(video: Path, said: dict[str, Any]) -> dict[str, Any]:
    """How a model is opened: as for the video, where nothing else is said. Raises `SettingsError`."""
    from holo_lite.directing.old_film import OldFilm

    settings = OldFilm.read(video).settings
    if said["model"] is None:
        _check_model(video, settings)
    if said["dtype"] == "auto":
        said["dtype"] = settings.dtype
    return said


def _check_model(video: Path, settings: RunSettings) -> None:
    from holo_lite.settings import BUILT_IN

    if not settings.model.startswith(BUILT_IN):
        raise SettingsError(
            f"{video}: was made with another model than the built-in one; give --model with its folder"
        )
