"""Films made for a node: ordered, watched, and brought into ComfyUI's forms."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import InputImpl, io, ui

from . import folders, frames, host
from .handles import Film, Model, NodeError
from .session import Session
from .waiting import Record

LOG = "render.log"


class Watched:
    """Hears the records of runs, and keeps the last of each."""

    def __init__(self, films: int) -> None:
        self._bar = host.Bar(films)
        self.finished: list[Record] = []

    def hear(self, record: Record) -> None:
        """Take a record."""
        self._bar.take(record)
        if record.get("kind") == "finished":
            self.finished.append(record)


def made(session: Session, model: Model, orders: Sequence[Mapping[str, Any]]) -> io.NodeOutput:
    """Have orders made. Returns what every node that makes films has: frames, video, sheet, film, settings of each.

    Frames are brought in when all films are made: beside a run they would take main memory that it may need.
    """
    log = folders.places().scratch / LOG
    host.make_room()
    watched, raws = Watched(len(orders)), [Path(each["raw"]) for each in orders]
    try:
        session.make(model, [dict(each) for each in orders], log, watched.hear, host.check)
        if len(watched.finished) != len(orders):
            raise NodeError(f"the render told no end; {log} says more")
        return _output(watched.finished, raws, model)
    finally:
        for raw in raws:
            raw.unlink(missing_ok=True)  # it is large, and the next run writes it again


def _output(finished: Sequence[Record], raws: Sequence[Path], model: Model) -> io.NodeOutput:
    films = [_parts(each, raw, model) for each, raw in zip(finished, raws, strict=True)]
    shown = ui.PreviewVideo([_shown(Path(each["video"])) for each in finished])
    return io.NodeOutput(*(list(each) for each in zip(*films, strict=True)), ui=shown)


def _parts(finished: Record, raw: Path, model: Model) -> tuple[Any, ...]:
    settings, video = finished["settings"], Path(finished["video"])
    return (
        frames.frames_of(raw, settings["height"], settings["width"]),
        InputImpl.VideoFromFile(str(video)),
        frames.image_of(Path(finished["sheet"])),
        Film(video, model, settings["seed"]),
        json.dumps(settings, ensure_ascii=False, indent=1),
    )


def _shown(video: Path) -> Any:
    """A video, to be played on the node."""
    folder = os.path.relpath(video.parent, folder_paths.get_output_directory())
    return ui.SavedResult(video.name, folder, io.FolderType.output)
