"""What ComfyUI asks the pack for: its nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import folders, host
from .film_nodes import HoloCineExtend, HoloCineGenerate, HoloCineRetake
from .look_nodes import HoloCineCheck, HoloCinePlan
from .model_node import HoloCineModel
from .sharing import QUEUEING
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
        """Its nodes. ComfyUI is told which model folder they read, and that they look at what is queued."""
        folders.register()
        host.on_queueing(QUEUEING.take)
        return list(NODES)
