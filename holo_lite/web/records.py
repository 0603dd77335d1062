"""The draft and what can be chosen, as a page has them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from holo_lite.config import TEXT_ROWS, Defaults
from holo_lite.plan.profile import AUTO, shipped_profiles
from holo_lite.system.records import plain
from holo_lite.system.units import memory_text
from holo_lite.version import __version__
from holo_lite.web.board import Board
from holo_lite.web.draft import Draft
from holo_lite.web.errands import Errands
from holo_lite.web.storyboards import Shelves
from holo_lite.worker.client import Record
from holo_lite.writing.endpoint import Endpoint

KERNELS = ("auto", "sdpa", "cudnn", "flash", "efficient", "flash-attn-2", "flash-attn-3", "flash-attn-4", "sage")
MODEL_HELP = (
    "holo-tiny draws coloured shapes, to try things out. For real pictures, get HoloCine-14B: it is downloaded and "
    "converted once, and its weights are for research and other non-commercial use. Wan 2.2, from which it was "
    "made, is for any use; its cuts are soft."
)


def board_record(board: Board, shelves: Shelves) -> Record:
    """The draft that is edited."""
    draft = board.draft
    return {
        "rev": board.rev,
        "title": draft.title,
        "scene": draft.scene,
        "shots": [{**plain(shot), "picture": _picture(shelves, shot.picture)} for shot in draft.shots],
        "references": [{**plain(each), "picture": _picture(shelves, each.picture)} for each in draft.references],
        "settings": plain(draft.settings),
        "file": _file(draft),
        "changed": board.is_changed,
        "undo": board.can_undo,
        "redo": board.can_redo,
    }


def setup_record(folder: Path, shelves: Shelves, errands: Errands, endpoint: Endpoint | None) -> Record:
    """What can be chosen, and how far the first run is."""
    built_in_alone = len(shelves.models) == 1
    return {
        "version": __version__,
        "folder": folder.name or str(folder),
        "models": [
            {
                "id": each.id,
                "name": each.name,
                "built_in": each.path is None,
                "summary": each.summary,
                "defaults": _defaults(each.defaults),
            }
            for each in shelves.models
        ],
        "model_help": MODEL_HELP if built_in_alone else None,
        "profiles": [{"name": AUTO, "text": "what suits this machine"}, *_profiles()],
        "kernels": list(KERNELS),
        "adapters": [{"id": each.id, "name": each.name} for each in shelves.adapters],
        "doctor": errands.doctor,
        "writing": {"endpoint": endpoint.route} if endpoint is not None else None,
        "fetch": errands.fetching,
        "defaults": _defaults(shelves.models[0].defaults),
        "limits": {"tokens": TEXT_ROWS},
    }


def _defaults(defaults: Defaults) -> dict[str, Any]:
    found = dataclasses.asdict(defaults)
    return {**found, "latents": (found["frames"] + 3) // 4}


def _profiles() -> list[dict[str, str]]:
    return [
        {
            "name": each.name,
            "text": "computes on the processor" if each.device == "cpu" else f"a card of {memory_text(each.card)}",
        }
        for each in shipped_profiles()
    ]


def _picture(shelves: Shelves, upload: str | None) -> Record | None:
    found = shelves.uploads.find(upload)
    if upload is None:
        return None
    if found is None:
        return {"id": upload, "name": "a picture that is gone", "url": None}
    return {"id": found.id, "name": found.name, "url": f"/uploads/{found.id}"}


def _file(draft: Draft) -> Record | None:
    return {"id": draft.file, "name": draft.file} if draft.file is not None else None
