"""What a farm is asked for: an order for each storyboard, with the paths that every machine knows."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from holo_lite.farm.clips import Clip, Clips
from holo_lite.farm.events import Record
from holo_lite.farm.shared import Note
from holo_lite.jobs.items import BatchItem
from holo_lite.jobs.preview import preview_path
from holo_lite.plan.profile import SUFFIX
from holo_lite.settings import Options
from holo_lite.tiny.model import is_name
from holo_lite.version import __version__
from holo_lite.worker.order import Opening, Order


@dataclass(frozen=True)
class Wanted:
    """What all clips of a batch have in common."""

    model: Path | None
    opening: Opening
    options: Options
    overwrite: bool = False
    latents: bool = True
    preview: int = 0


def clips_of(items: Sequence[BatchItem], wanted: Wanted) -> Clips:
    """A clip for each item."""
    return Clips([Clip(item, _order(item, wanted)) for item in items])


def opening_request(clips: Clips, note: Note) -> Record:
    """What a card is asked first: to open the model, and whether it sees what it must."""
    sources = [clip.order["storyboard"] for clip in clips.all]
    seen = [source for source in sources if os.path.exists(source)]
    return {
        "do": "open",
        "version": __version__,
        "order": clips.all[0].order,
        "note": {"path": note.path, "text": note.text},
        "sources": seen,
    }


def _order(item: BatchItem, wanted: Wanted) -> Record:
    video = Path(os.path.abspath(item.video))
    return Order(
        out=video,
        storyboard=os.path.abspath(item.storyboard),
        model=_absolute(wanted.model),
        opening=_everywhere(wanted.opening),
        options=wanted.options,
        preview=wanted.preview,
        preview_at=preview_path(video) if wanted.preview else None,
        overwrite=wanted.overwrite,
        latents=wanted.latents,
    ).table()


def _everywhere(opening: Opening) -> Opening:
    """The same with files by their whole names; the name of a profile stays one."""
    lora = {
        expert: [(os.path.abspath(file), strength) for file, strength in files]
        for expert, files in opening.lora.items()
    }
    is_file = Path(opening.profile).suffix == SUFFIX
    return dataclasses.replace(
        opening, lora=lora, profile=os.path.abspath(opening.profile) if is_file else opening.profile
    )


def _absolute(model: Path | None) -> str | None:
    """A folder by its whole name; the name of the built-in model stays one."""
    return None if model is None else str(model) if is_name(model) else os.path.abspath(model)
