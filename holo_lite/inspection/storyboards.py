"""Storyboards, in a file or as a prompt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from holo_lite.config import Defaults
from holo_lite.inspection.lines import do, length
from holo_lite.story.files import load_storyboard
from holo_lite.story.storyboard import Storyboard
from holo_lite.story.timeline import Timeline, resolve_timeline


def storyboard(path: Path) -> Iterator[str]:
    """A storyboard's file. Raises `StoryboardError`."""
    yield from _described(load_storyboard(path))
    yield ""
    yield do("look for mistakes in it", "check", path)


def prompt(path: Path) -> Iterator[str]:
    """A prompt that was typed in place of a name. Raises `StoryboardError`."""
    yield from _described(load_storyboard(str(path)))


def _described(storyboard: Storyboard) -> Iterator[str]:
    fps = storyboard.fps or Defaults().fps
    timeline = resolve_timeline(storyboard, default_frames=Defaults().frames, fps=fps)
    yield f"storyboard {storyboard.title or ''}".rstrip() + f": {length(timeline.num_frames, fps)}"
    yield from (f"note: {note}" for note in timeline.notes)
    yield from _shots(storyboard, timeline, fps)
    yield ""
    yield from storyboard.prompt.split("\n")


def _shots(storyboard: Storyboard, timeline: Timeline, fps: float) -> Iterator[str]:
    shots = zip(timeline.shot_frames, storyboard.shot_captions(), strict=True)
    for number, ((first, end), caption) in enumerate(shots, start=1):
        yield f"  shot {number:2}  frames {first:4}-{end - 1:4}  {(end - first) / fps:5.1f} s  {caption}"
