"""`holo-lite resume`: continue an interrupted run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holo_lite.commands.helping import Command
from holo_lite.commands.options import (
    devices_option,
    keep_option,
    latents_option,
    overwrite_option,
    preview_option,
    progress_option,
)
from holo_lite.commands.shared import previewed, watch
from holo_lite.commands.stopping import token
from holo_lite.commands.talking import talking_options
from holo_lite.system.garbage import bringing_torch

if TYPE_CHECKING:
    from holo_lite.events import Events


@click.command(cls=Command, short_help="Continue an interrupted run.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), help="The model's folder, if it has moved.")
@click.option("--out", type=click.Path(path_type=Path), help="The mp4 to write.  [default: the run's own]")
@click.option("--device", help="Compute on: cpu, cuda or cuda:N.  [default: the run's own]")
@devices_option
@click.option(
    "--profile", help="Memory budget: a name from `profiles`, or a TOML file.  [default: the run's own plan]"
)
@overwrite_option
@latents_option
@preview_option
@keep_option
@progress_option
@talking_options
def resume(
    run: Path,
    out: Path | None,
    overwrite: bool,
    latents: bool,
    preview: int | None,
    keep_run: bool,
    progress: str,
    **otherwise: Any,
) -> None:
    """Continue an interrupted run. RUN is its folder, or the video it was going to make.

    Uses the run's original settings and plan; the video is identical to an uninterrupted one.
    """
    with bringing_torch():
        from holo_lite.render.pipeline import Pipeline
        from holo_lite.render.sinks import FilmSink
        from holo_lite.runs.folder import RunFolder
        from holo_lite.runs.own import refuse_another_video

    folder = RunFolder.named(run)
    pipeline = Pipeline.of_run(folder.path, **{name: said for name, said in otherwise.items() if said})
    record = folder.begun()
    video = out or folder.video(record)
    if not overwrite:
        refuse_another_video(video, record.settings, latents=latents)

    def begin() -> Events:
        events = pipeline.resume(
            folder.path, FilmSink.at(video, latents=latents), keep_run=keep_run, cancel=token()
        )
        return previewed(events, pipeline, video, preview, overwrite=overwrite)

    watch(pipeline, begin, folder, progress)
