"""A draft as a storyboard with its options, and a storyboard as a draft."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holo_lite.config import Defaults
from holo_lite.errors import StoryboardError
from holo_lite.sampling.thresholds import parse_thresholds
from holo_lite.settings import Options, RunSettings
from holo_lite.story.storyboard import Reference, Shot, Storyboard
from holo_lite.story.timeline import resolve_timeline
from holo_lite.web.draft import Draft, DraftReference, DraftSettings, DraftShot, latent_of
from holo_lite.web.shelf import ShelfItem, pick
from holo_lite.web.uploads import Upload, Uploads

OPENING = ("profile", "kernel", "compute", "fuse")
IN_A_FILE = ("width", "height", "fps", "seed", "steps", "cfg", "negative")  # options that a storyboard may give
NOISE = {"high": "high_noise", "low": "low_noise"}


@dataclass(frozen=True)
class Shelves:
    """What a draft's ids mean."""

    models: Sequence[ShelfItem]
    adapters: Sequence[ShelfItem]
    uploads: Uploads

    def model(self, draft: Draft) -> ShelfItem:
        """The draft's model; the first one where none is chosen. Raises `SettingsError`."""
        chosen = draft.settings.model
        return self.models[0] if chosen is None else pick(self.models, chosen, "model")

    def picture(self, upload: str | None, owner: str) -> Upload | None:
        """A picture. Raises `StoryboardError` for one that is gone."""
        found = self.uploads.find(upload)
        if upload is not None and found is None:
            raise StoryboardError(f"{owner}: its picture is not there any more; give it again")
        return found


def storyboard_of(draft: Draft, shelves: Shelves) -> Storyboard:
    """The storyboard that a draft is, with its timing. Raises `StoryboardError` for one that is not well formed."""
    if not draft.scene.strip():
        raise StoryboardError("the scene is empty: write who is in it, and where it happens")
    shots = tuple(_shot(shot, number, shelves) for number, shot in enumerate(draft.shots, start=1))
    return Storyboard(
        global_caption=draft.scene,
        shots=shots,
        cuts=draft.cuts,
        frames=draft.frames,
        title=draft.title or None,
        references=tuple(_reference(each, shelves) for each in draft.references),
    )


def saved_storyboard(draft: Draft, shelves: Shelves) -> Storyboard:
    """The same with the options that a file may hold."""
    said = {name: getattr(draft.settings, name) for name in IN_A_FILE}
    return dataclasses.replace(storyboard_of(draft, shelves), **said)


def options_of(draft: Draft) -> Options:
    """The options of a run. Raises `SettingsError`."""
    said: dict[str, Any] = {name: getattr(draft.settings, name) for name in (*IN_A_FILE, "cfg_until", "kappa")}
    cache = draft.settings.cache
    return Options(**said, cache=parse_thresholds(cache) if cache else None)


def opening_of(draft: Draft, shelves: Shelves) -> dict[str, Any]:
    """How its model is opened, as an order has it. Raises `SettingsError` for an adapter that is gone."""
    found: dict[str, Any] = {name: getattr(draft.settings, name) or "auto" for name in OPENING}
    lora: dict[str, list[tuple[str, float]]] = {}
    for each in draft.settings.lora:
        path = pick(shelves.adapters, each.id, "adapter").path
        lora.setdefault(NOISE[each.expert], []).append((str(path), each.strength))
    return {**found, "lora": lora}


def draft_of(board: Storyboard, defaults: Defaults, title: str = "") -> Draft:
    """A draft of a storyboard; its pictures are left out: whoever opens it may not be who named them.

    Raises `StoryboardError`, as reading it does.
    """
    fps = board.fps or defaults.fps
    bare = dataclasses.replace(board, references=())
    timeline = resolve_timeline(bare, default_frames=defaults.frames, fps=fps)
    said = {name: getattr(board, name) for name in IN_A_FILE}
    scene, captions = board.scene, board.shot_captions()
    return _draft(scene, captions, timeline.num_frames, timeline.cuts, DraftSettings(**said), board.title or title)


def draft_of_run(settings: RunSettings, model: str | None, title: str) -> Draft:
    """A draft of what made a video."""
    options: dict[str, Any] = {name: getattr(settings, name) for name in IN_A_FILE}
    if settings.cfg_low is not None:  # a scale for each expert is the model's own, and its default
        options["cfg"] = None
    high, low = settings.cache
    more: dict[str, Any] = {
        "cache": f"high={high:g},low={low:g}" if high or low else None,
        "cfg_until": settings.cfg_until if settings.cfg_until != 1 else None,
        "model": model,
    }
    shown = settings.shown
    scene, captions = settings.storyboard.scene, settings.shown_captions
    return _draft(scene, captions, shown.num_frames, shown.cuts, DraftSettings(**options, **more), title)


def _draft(
    scene: str, captions: Sequence[str], frames: int, cuts: Sequence[int], settings: DraftSettings, title: str
) -> Draft:
    edges = [0, *map(latent_of, cuts), latent_of(frames - 1) + 1 if frames > 1 else 1]
    shots = tuple(
        DraftShot(f"s{number}", caption, edges[number] - edges[number - 1])
        for number, caption in enumerate(captions, start=1)
    )
    return Draft(title, scene, shots, settings=settings, named=len(shots))


def _shot(shot: DraftShot, number: int, shelves: Shelves) -> Shot:
    picture = shelves.picture(shot.picture, f"shot {number}")
    return Shot(shot.caption, image=_path(picture))


def _reference(each: DraftReference, shelves: Shelves) -> Reference:
    picture = shelves.picture(each.picture, "a reference")
    return Reference(each.caption, image=_path(picture))


def _path(picture: Upload | None) -> str | None:
    return str(Path(picture.path).absolute()) if picture is not None else None
