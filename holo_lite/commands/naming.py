"""What files made of a storyboard are named, and whether one is there already."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from holo_lite.commands.telling import note
from holo_lite.views.terminal import typed

if TYPE_CHECKING:
    from holo_lite.runs.folder import RunFolder
    from holo_lite.settings import RunSettings


def is_done(video: Path, settings: RunSettings, *, overwrite: bool, latents: bool = True) -> bool:
    """Whether the video is there already; it is said. Raises `OutputError` for something else in its place."""
    from holo_lite.film.video import check_writable
    from holo_lite.runs.own import is_finished, refuse_another_video

    check_writable(video)  # a name that no video can have
    if is_finished(video, settings, latents=latents):
        note(f"done already   {video}")
        return True
    if not overwrite:
        refuse_another_video(video, settings, latents=latents)
    return False


def resuming(folder: RunFolder) -> str:
    """The command that goes on with the run in a folder."""
    return typed(["holo-lite", "resume", str(folder.path)])


def named_after(stem: str, settings: RunSettings) -> Path:
    """The video of a storyboard with that stem, in the current folder.

    Numbered where a video or picture of that name is there, or an unfinished run of other settings: what took hours
    is not written over unasked. An unfinished run of these settings is gone on with, a finished one is the name.
    Raises `RunError`.
    """
    from holo_lite.runs.folder import RunFolder
    from holo_lite.runs.own import video_at
    from holo_lite.runs.record import difference

    for name in numbered(stem, ".mp4"):
        folder = RunFolder.beside(name)
        if folder.has_state and not difference(folder.begun().settings, settings):
            return name
        if folder.has_state:
            note(f"note: {folder.path} holds another unfinished run; {resuming(folder)} continues it")
        elif is_free(name) or video_at(name, settings).state == "own":
            return name
    raise AssertionError("numbers do not end")


def free(stem: str, suffix: str) -> Path:
    """The first of stem, stem-2, stem-3, … that neither a file with this suffix nor a picture bears."""
    return next(filter(is_free, numbered(stem, suffix)))


def numbered(stem: str, suffix: str) -> Iterator[Path]:
    """Names: stem, stem-2, stem-3, …"""
    return chain([Path(f"{stem}{suffix}")], (Path(f"{stem}-{number}{suffix}") for number in count(2)))


def is_free(name: Path) -> bool:
    """Whether neither a file nor a picture bears a name."""
    return not (name.exists() or name.with_suffix(".png").exists())
