"""Inputs that grow: one more appears when the last is connected. ComfyUI has them from some version on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

NAMES = tuple(f"caption{number}" for number in range(1, 33))


def caption_inputs() -> list[Any]:
    """Captions from other nodes, as many as are connected; nothing where ComfyUI has no such inputs."""
    grow = getattr(io, "Autogrow", None)
    if grow is None:
        return []
    one = io.String.Input("caption", optional=True, tooltip="What one more shot shows.")
    return [
        grow.Input(
            "captions",
            template=grow.TemplateNames(one, names=list(NAMES), min=1),
            optional=True,
            tooltip="Captions of more shots, after those of `shots`: one node's text for each.",
        )
    ]


def captions_in_order(found: Mapping[str, str | None] | None) -> list[str]:
    """What is connected, in the order of the inputs."""
    return [found[name] or "" for name in NAMES if name in found] if found else []
