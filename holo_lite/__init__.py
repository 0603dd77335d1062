"""holo-lite: HoloCine multi-shot video, shot by shot, on the card you have.

    from holo_lite import Options, Pipeline, finish, load_storyboard

    pipeline = Pipeline.load("models/holocine-nf4")
    run = pipeline.generate(load_storyboard("storyboard.toml"), "video.mp4", Options(seed=7))
    print(finish(run).video)

docs/python.md says all of it. Names are looked up when they are first used, so that importing the package costs
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holo_lite.errors import HoloError
    from holo_lite.events import finish
    from holo_lite.pipeline import Pipeline
    from holo_lite.settings import Options, RunSettings
    from holo_lite.story.files import load_storyboard
    from holo_lite.story.storyboard import Shot, Storyboard

__version__ = "0.1.0"
__all__ = ["HoloError", "Options", "Pipeline", "RunSettings", "Shot", "Storyboard", "finish", "load_storyboard"]

_HOMES = {
    "HoloError": "errors",
    "Options": "settings",
    "Pipeline": "pipeline",
    "RunSettings": "settings",
    "Shot": "story.storyboard",
    "Storyboard": "story.storyboard",
    "finish": "events",
    "load_storyboard": "story.files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'holo_lite' has no attribute '{name}'")
    return getattr(import_module(f"holo_lite.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
