"""What the nodes ask of the running ComfyUI besides its folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
from comfy_execution.utils import get_executing_context
from server import PromptServer

from . import frames
from .progress import WHOLE, RunShare

LARGEST_PREVIEW = 512  # pixels of its longer side


def check() -> None:
    """Raise ComfyUI's own error where somebody interrupts."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def make_room() -> None:
    """Give the card's memory back before another process renders on it."""
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


def on_queueing(take: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Have every request that queues a graph go through a function, before the graph is validated."""
    PromptServer.instance.add_on_prompt_handler(take)


def node_at_work() -> str:
    """The key of the node that is validated or runs now; nothing where none is."""
    context = get_executing_context()
    return "" if context is None else str(context.node_id)


class Bar:
    """The bar of a node that makes so many films, with the newest picture of where the run is heading."""

    def __init__(self, films: int) -> None:
        self._whole = WHOLE * films
        self._bar = comfy.utils.ProgressBar(self._whole)
        self._before, self._share = 0, RunShare()

    def take(self, record: dict[str, Any]) -> None:
        """Show what a record of the run says. Raises ComfyUI's own error where somebody interrupts."""
        if self._share.take(record):
            self._show(None)
        elif record.get("kind") == "preview":
            self._show(frames.preview_of(Path(record["path"])))
        elif record.get("kind") == "finished":
            self._show(frames.preview_of(Path(record["sheet"])))  # what stays on the node
            self._before, self._share = self._before + WHOLE, RunShare()

    def _show(self, picture: Any) -> None:
        preview = None if picture is None else ("JPEG", picture, LARGEST_PREVIEW)
        self._bar.update_absolute(self._before + self._share.value, self._whole, preview)
