"""What ComfyUI loads where this repository is cloned into its `custom_nodes`. Nothing else imports it."""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./holo_lite/comfy/web"  # help pages, and a setting


async def comfy_entrypoint() -> Any:
    """The nodes; imported when ComfyUI asks, so that importing this file needs nothing."""
    from .holo_lite.comfy.extension import HoloCineExtension

    return HoloCineExtension()
