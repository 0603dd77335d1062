"""What stands where a run is to write: nothing, what the run itself would make, or something else.

A file is a run's own if the settings it carries are that run's: a video has them in a tag, a picture in a text
chunk. Nothing else is ever written over unasked, whoever made it. One rule for every command.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from holo_lite.errors import OutputError
from holo_lite.film.marks import read_mark
from holo_lite.film.video import is_blank, read_metadata
from holo_lite.reading.trees import parse
from holo_lite.runs.folder import RunFolder
from holo_lite.runs.kept_latents import latents_path, settings_of
from holo_lite.runs.record import difference
from holo_lite.settings import RunSettings


@dataclass(frozen=True)
class Standing:
    """What is at a path. why: in what it is not the run's own."""

    state: Literal["free", "own", "other"]
    why: str = ""


FREE, OWN = Standing("free"), Standing("own")
FOREIGN = "not made by holo-lite"


def video_at(path: Path, settings: RunSettings) -> Standing:
    """What stands in a video's place. A file without any content is nothing."""
    if not _is_there(path):
        return FREE
    try:
        return _compared(read_metadata(path), settings)
    except OutputError:
        return Standing("other", FOREIGN)


def picture_at(path: Path, settings: RunSettings) -> Standing:
    """What stands in the place of a contact sheet or preview."""
    if not _is_there(path):
        return FREE
    mark = read_mark(path)
    return _compared(mark, settings) if mark is not None else Standing("other", FOREIGN)


def seeds_mark(seeds: Sequence[int], settings: RunSettings) -> str:
    """The text of a sheet of drafts: their seeds, and the settings of the first."""
    return json.dumps({"seeds": list(seeds), "settings": json.loads(settings.to_json())}, ensure_ascii=False)


def seeds_at(path: Path, seeds: Sequence[int], settings: RunSettings) -> Standing:
    """What stands in the place of a sheet of drafts."""
    if not _is_there(path):
        return FREE
    try:
        found = parse(read_mark(path) or "")
        if found["seeds"] != list(seeds):
            return Standing("other", "made with other seeds")
        return _compared(json.dumps(found["settings"]), settings)
    except (ValueError, LookupError, TypeError):
        return Standing("other", FOREIGN)


def latents_at(path: Path, settings: RunSettings) -> Standing:
    """What stands in the place of a video's latents."""
    if not _is_there(path):
        return FREE
    try:
        return _compared(settings_of(path), settings)
    except OutputError:
        return Standing("other", FOREIGN)


def files_beside(video: Path, settings: RunSettings, *, latents: bool = True) -> Iterator[tuple[Path, Standing]]:
    """What stands in the places of a video's sheet, and of its latents if they are to be kept."""
    yield video.with_suffix(".png"), sheet_at(video, settings)
    if latents:
        yield latents_path(video), latents_at(latents_path(video), settings)


def is_finished(video: Path, settings: RunSettings, *, latents: bool = True) -> bool:
    """Whether a run's video is there, and its other files, unless nothing is left that they could be made from.

    A process that is killed between two of them leaves its run folder, from which the rest is made.
    """
    if video_at(video, settings).state != "own":
        return False
    missing = any(found.state == "free" for _, found in files_beside(video, settings, latents=latents))
    return not (missing and RunFolder.beside(video).has_state)


def refuse_another_video(path: Path, settings: RunSettings, *, latents: bool = True) -> None:
    """Raise `OutputError` where a video, its sheet or its latents would be written over something else."""
    refuse(path, video_at(path, settings))
    for place, found in files_beside(path, settings, latents=latents):
        refuse(place, found)


def sheet_at(video: Path, settings: RunSettings) -> Standing:
    """What stands in the place of a video's contact sheet."""
    return picture_at(video.with_suffix(".png"), settings)


def refuse(path: Path, found: Standing) -> None:
    """Raise `OutputError` for something else than a run's own."""
    if found.state == "other":
        raise OutputError(
            f"{path}: is there, and is something else ({found.why}); name the video otherwise, or give --overwrite"
        )


def _is_there(path: Path) -> bool:
    """Whether there is something that could be lost. A folder in the way is refused elsewhere, by its own words."""
    return os.path.lexists(path) and not path.is_dir() and not is_blank(path)


def _compared(found: str, settings: RunSettings) -> Standing:
    try:
        apart = difference(RunSettings.from_json(found), settings)
    except OutputError:
        return Standing("other", FOREIGN)
    return Standing("other", f"made with other settings: {'; '.join(apart)}") if apart else OWN
