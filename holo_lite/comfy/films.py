"""A film made for a node: ordered, watched, and brought into ComfyUI's forms."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import InputImpl, io, ui

from . import folders, frames, host
from .handles import Film, Model, NodeError
from .session import Session
from .waiting import Record

LOG = "render.log"


@dataclass
class Watched:
    """Hears the records of a run, and keeps its last."""

    bar: host.Bar = field(default_factory=host.Bar)
    finished: Record | None = None

    def hear(self, record: Record) -> None:
        """Take a record."""
        self.bar.take(record)
        if record.get("kind") == "finished":
            self.finished = record


def made(session: Session, model: Model, order: Mapping[str, Any]) -> io.NodeOutput:
    """Have an order made. Returns what every node that makes a film has: frames, video, sheet, film, settings."""
    log = folders.places().scratch / LOG
    host.make_room()
    watched, raw = Watched(), Path(order["raw"])
    try:
        session.make(model, dict(order), log, watched.hear, host.check)
        if watched.finished is None:
            raise NodeError(f"the render told no end; {log} says more")
        return _output(watched.finished, raw, model)
    finally:
        raw.unlink(missing_ok=True)  # it is large, and the next run writes it again


def _output(finished: Record, raw: Path, model: Model) -> io.NodeOutput:
    settings, video = finished["settings"], Path(finished["video"])
    return io.NodeOutput(
        frames.frames_of(raw, settings["height"], settings["width"]),
        InputImpl.VideoFromFile(str(video)),
        frames.image_of(Path(finished["sheet"])),
        Film(video, model),
        json.dumps(settings, ensure_ascii=False, indent=1),
        ui=_shown(video),
    )


def _shown(video: Path) -> Any:
    """The video, to be played on the node."""
    folder = os.path.relpath(video.parent, folder_paths.get_output_directory())
    return ui.PreviewVideo([ui.SavedResult(video.name, folder, io.FolderType.output)])
