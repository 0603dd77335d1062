"""Orders to the render process, as docs/worker.md names them, and where their files go.

The name of a video is a hash of all that decides it. So the same graph finds the video it began, in this ComfyUI or
the next, and another graph never writes over it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .handles import Film, Model, NodeError, Story

VERSION = {"version": 3, "runs_from": 2}
NO_NAME = re.compile(r"[^\w-]+")
LONGEST_NAME = 60
Order = dict[str, Any]


@dataclass(frozen=True)
class Wishes:
    """What is asked of a run besides its story. options: as in an order. every: steps between two previews."""

    options: Mapping[str, Any]
    name: str = "holocine"
    every: int = 1
    draft: bool = False

    def of(self, seed: int | None) -> Wishes:
        """The same with a seed; None: none is said."""
        return self if seed is None else replace(self, options={**self.options, "seed": seed})


@dataclass(frozen=True)
class Places:
    """Where files go: out keeps videos, scratch is for what ComfyUI may throw away."""

    out: Path
    scratch: Path

    def scratched(self, name: str, data: bytes) -> Path:
        """A file in the scratch folder, named by its content, too."""
        path = self.scratch / f"{hashlib.sha256(data).hexdigest()[:16]}-{name}"
        if not path.exists():
            self.scratch.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return path


def board_order(model: Model, story: Story, wishes: Wishes, places: Places) -> Order:
    """A video of a storyboard."""
    return _order(model, {"storyboard": story.tree}, wishes, places)


def retake_order(film: Film, again: Mapping[int, str | None], wishes: Wishes, places: Places) -> Order:
    """Shots of a video once more; new captions by their numbers, None for the old one."""
    asked = {"video": str(film.video), "again": {str(number): caption for number, caption in again.items()}}
    return _order(film.model, asked, wishes, places)


def extend_order(film: Film, story: Story, remember: list[int], wishes: Wishes, places: Places) -> Order:
    """The story continued; remember: none said is as many shots as fit."""
    asked = {"video": str(film.video), "storyboard": story.tree, "remember": remember or None}
    return _order(film.model, asked, wishes, places)


def plan_order(model: Model, story: Story, wishes: Wishes, places: Places) -> Order:
    """A storyboard to plan: nothing will be written."""
    return {
        **VERSION,
        "out": str(places.scratch / "planned.mp4"),
        "storyboard": str(storyboard_file(story, places)),
        **_opened(model),
        "options": dict(wishes.options),
    }


def storyboard_file(story: Story, places: Places) -> Path:
    """The storyboard as a file."""
    text = json.dumps(story.tree, ensure_ascii=False, default=str)
    return places.scratched("storyboard.json", text.encode("utf-8", "surrogatepass"))


def only_said(**options: Any) -> dict[str, Any]:
    """The options that somebody gave: 0 and an empty text are the model's own."""
    return {name: value for name, value in options.items() if value}


def file_stem(name: str) -> str:
    """The beginning of a file's name. Raises `NodeError` for what leaves nothing."""
    stem = NO_NAME.sub("-", name).strip("-")[:LONGEST_NAME]
    if not stem:
        raise NodeError(f"name: {name!r} has no letter or digit; give the beginning of the video's name")
    return stem


def _order(model: Model, asked: Mapping[str, Any], wishes: Wishes, places: Places) -> Order:
    decides = [asked, model.folder, dict(model.opening), model.mark, dict(wishes.options), wishes.draft]
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:12]
    stem = f"{file_stem(wishes.name)}-{digest}"
    for folder in (places.out, places.scratch):
        folder.mkdir(parents=True, exist_ok=True)
    if "storyboard" in asked:
        asked = {**asked, "storyboard": str(storyboard_file(Story(asked["storyboard"]), places))}
    preview = {"preview": wishes.every, "preview_at": str(places.scratch / f"{stem}.preview.png")}
    return {
        **VERSION,
        "out": str(places.out / f"{stem}.mp4"),
        **asked,
        **_opened(model),
        "options": dict(wishes.options),
        "draft": wishes.draft,
        "raw": str(places.scratch / f"{stem}.rgb"),
        **(preview if wishes.every else {}),
        "keep_run": True,
    }


def _opened(model: Model) -> dict[str, Any]:
    return {"model": model.folder, "opening": dict(model.opening)}
