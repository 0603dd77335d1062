"""`holo-lite resume`: a run that was cut off goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from holo_lite.commands.options import keep_option, overwrite_option, preview_option, progress_option
from holo_lite.commands.shared import previewed, watch
from holo_lite.commands.stopping import token

if TYPE_CHECKING:
    from holo_lite.events import Events


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), help="The model's folder, if it has moved.")
@click.option("--out", type=click.Path(path_type=Path), help="The mp4 to write.  [default: as it was begun]")
@click.option("--device", help="cpu, cuda or cuda:N.  [default: as it was begun]")
@click.option(
    "--profile", help="A name that `profiles` lists, or a TOML file.  [default: the plan it was begun with]"
)
@overwrite_option
@preview_option
@keep_option
@progress_option
def resume(
    run: Path,
    out: Path | None,
    overwrite: bool,
    preview: int | None,
    keep_run: bool,
    progress: str,
    **otherwise: Path | str | None,
) -> None:
    """Go on with a run that was cut off. RUN is its folder, or the video it was to make.

    Settings and plan are those it was begun with, and the video is the one it would have been.
    """
    from holo_lite.render.pipeline import Pipeline
    from holo_lite.runs.folder import RunFolder
    from holo_lite.runs.own import refuse_another_video

    folder = RunFolder.named(run)
    pipeline = Pipeline.of_run(folder.path, **{name: said for name, said in otherwise.items() if said is not None})
    record = folder.begun()
    video = out or folder.video(record)
    if not overwrite:
        refuse_another_video(video, record.settings)

    def begin() -> Events:
        events = pipeline.resume(folder.path, out, keep_run=keep_run, cancel=token())
        return previewed(events, pipeline, video, preview, overwrite=overwrite)

    watch(pipeline, begin, folder, progress)
