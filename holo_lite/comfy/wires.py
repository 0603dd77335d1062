"""The types of our own wires: no other node takes them by mistake."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "HoloCine"
MODEL = io.Custom("HOLOCINE_MODEL")
STORY = io.Custom("HOLOCINE_STORYBOARD")
PICTURES = io.Custom("HOLOCINE_PICTURES")
FILM = io.Custom("HOLOCINE_FILM")
