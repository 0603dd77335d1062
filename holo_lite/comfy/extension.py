"""What ComfyUI asks the pack for: its nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import folders
from .film_nodes import HoloCineExtend, HoloCineGenerate, HoloCineRetake
from .look_nodes import HoloCineCheck, HoloCinePlan
from .model_node import HoloCineModel
from .story_nodes import HoloCinePicture, HoloCineStoryboard, HoloCineStoryboardTOML

NODES = (
    HoloCineModel,
    HoloCineStoryboard,
    HoloCineStoryboardTOML,
    HoloCinePicture,
    HoloCinePlan,
    HoloCineCheck,
    HoloCineGenerate,
    HoloCineRetake,
    HoloCineExtend,
)


class HoloCineExtension(ComfyExtension):
    """The pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Its nodes, and the model folder they read."""
        folders.register()
        return list(NODES)
