"""A small stand-in for ComfyUI: what the nodes use of it, and what it does with them, for tests without it.

`USED` names all of it; `tests/comfy/test_in_comfyui.py` compares these with the real ones where ComfyUI is.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

INPUTS = ("Combo", "String", "Int", "Float", "Boolean", "Image", "Video")


class Interrupted(Exception):  # noqa: N818 - it is no error there either
    """As ComfyUI's InterruptProcessingException."""


@dataclass(frozen=True)
class ExecutionContext:
    node_id: str


EXECUTING: contextvars.ContextVar[ExecutionContext | None] = contextvars.ContextVar("executing", default=None)


def get_executing_context() -> ExecutionContext | None:
    return EXECUTING.get()


class PromptServer:
    """The server: whoever has asked for it sees each request that queues a graph, before that is validated."""

    instance: PromptServer

    def __init__(self) -> None:
        self.handlers: list[Any] = []

    def add_on_prompt_handler(self, handler: Any) -> None:
        self.handlers.append(handler)

    def trigger_on_prompt(self, json_data: Any) -> Any:
        for handler in self.handlers:
            json_data = handler(json_data)
        return json_data


class FolderType(StrEnum):
    output = "output"


class ComfyNode:
    pass


class ComfyExtension:
    pass


class Schema:
    def __init__(
        self,
        node_id: str,
        display_name: str | None = None,
        category: str = "sd",
        inputs: Any = None,
        outputs: Any = None,
        description: str = "",
        is_output_node: bool = False,
    ) -> None:
        self.node_id, self.display_name, self.category = node_id, display_name, category
        self.inputs, self.outputs = list(inputs or []), list(outputs or [])
        self.description, self.is_output_node = description, is_output_node


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None) -> None:
        self.args, self.ui = args, ui


class Input:
    def __init__(self, id: str, **said: Any) -> None:  # noqa: A002 - ComfyUI's name
        self.id, self.said = id, said


class Output:
    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - ComfyUI's name
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ) -> None:
        self.id, self.display_name, self.tooltip = id, display_name, tooltip
        self.is_output_list = is_output_list


class Autogrow:
    """An input that grows, as later versions have it: its values come as a dictionary by their names."""

    class Input(Input):
        pass

    class TemplateNames:
        def __init__(self, input: Input, names: list[str], min: int = 1) -> None:  # noqa: A002 - ComfyUI's names
            self.input, self.names, self.min = input, names, min


def custom(io_type: str) -> Any:
    """A type of one's own."""
    return SimpleNamespace(io_type=io_type, Input=Input, Output=Output)


class SavedResult(dict):
    def __init__(self, filename: str, subfolder: str, type: FolderType) -> None:  # noqa: A002 - ComfyUI's name
        super().__init__(filename=filename, subfolder=subfolder, type=type.value)


class PreviewVideo:
    def __init__(self, values: list[SavedResult]) -> None:
        self.values = values


class VideoFromFile:
    def __init__(self, file: str) -> None:
        self.file = file


@dataclass
class Host:
    """ComfyUI with its folders under one. `interrupt` is asked for whether somebody interrupts."""

    folder: Path
    shown: list[tuple[int, int, Any]] = field(default_factory=list)
    emptied: int = 0
    interrupt: Any = lambda: False
    model_folders: dict[str, list[str]] = field(default_factory=dict)
    nodes: dict[str, Any] = field(default_factory=dict)

    def modules(self) -> dict[str, ModuleType]:
        """The modules that the nodes import, by their names."""
        memory = _module("comfy.model_management", **self._memory())
        utils = _module("comfy.utils", ProgressBar=self._bar())
        return {
            "folder_paths": _module("folder_paths", **self._folders()),
            "comfy": _module("comfy", __path__=[], model_management=memory, utils=utils),
            "comfy.model_management": memory,
            "comfy.utils": utils,
            "comfy_api": _module("comfy_api", __path__=[]),
            "comfy_execution": _module("comfy_execution", __path__=[]),
            "comfy_execution.utils": _module("comfy_execution.utils", get_executing_context=get_executing_context),
            "server": _module("server", PromptServer=type("Server", (PromptServer,), {"instance": PromptServer()})),
            "comfy_api.latest": _module("comfy_api.latest", **_api()),
        }

    def _check(self) -> None:
        if self.interrupt():
            raise Interrupted

    def _memory(self) -> dict[str, Any]:
        def count() -> None:
            self.emptied += 1

        return {
            "throw_exception_if_processing_interrupted": self._check,
            "unload_all_models": count,
            "soft_empty_cache": count,
        }

    def _bar(self) -> type:
        host = self

        class ProgressBar:
            def __init__(self, total: int) -> None:
                self.total = total

            def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
                host._check()
                host.shown.append((value, total or self.total, preview))

        return ProgressBar

    def _folders(self) -> dict[str, Any]:
        def add_model_folder_path(folder_name: str, full_folder_path: str) -> None:
            self.model_folders.setdefault(folder_name, []).append(full_folder_path)

        def get_full_path(folder_name: str, filename: str) -> str | None:
            places = [Path(each) / filename for each in self.model_folders.get(folder_name, [])]
            return next((str(each) for each in places if each.is_file()), None)

        def get_folder_paths(folder_name: str) -> list[str]:
            return list(self.model_folders[folder_name])

        return {
            "models_dir": str(self.folder / "models"),
            "add_model_folder_path": add_model_folder_path,
            "get_full_path": get_full_path,
            "get_folder_paths": get_folder_paths,
            "get_output_directory": lambda: str(self.folder / "output"),
            "get_temp_directory": lambda: str(self.folder / "temp"),
            "get_input_directory": lambda: str(self.folder / "input"),
            "get_user_directory": lambda: str(self.folder / "user"),
        }


def _module(name: str, **content: Any) -> ModuleType:
    found = ModuleType(name)
    vars(found).update(content)
    return found


def _api() -> dict[str, Any]:
    kinds = {name: SimpleNamespace(Input=Input, Output=Output) for name in INPUTS}
    io = SimpleNamespace(
        Autogrow=Autogrow,
        ComfyNode=ComfyNode,
        Schema=Schema,
        NodeOutput=NodeOutput,
        Custom=custom,
        FolderType=FolderType,
        **kinds,
    )
    return {
        "io": io,
        "ui": SimpleNamespace(PreviewVideo=PreviewVideo, SavedResult=SavedResult),
        "InputImpl": SimpleNamespace(VideoFromFile=VideoFromFile),
        "ComfyExtension": ComfyExtension,
    }


def load_pack(root: Path, name: str = "/somewhere/custom_nodes/holo-lite_x_1") -> ModuleType:
    """Load a pack as ComfyUI does: by its place, under a name that no import could have."""
    place = importlib.util.spec_from_file_location(name, root / "__init__.py")
    assert place is not None, "it has a place"
    assert place.loader is not None, "it is a file"
    pack = importlib.util.module_from_spec(place)
    sys.modules[name] = pack
    place.loader.exec_module(pack)
    return pack


def nodes_of(pack: ModuleType) -> dict[str, Any]:
    """The nodes of a pack by their ids."""

    async def asked() -> list[Any]:
        extension = await pack.comfy_entrypoint()
        found: list[Any] = await extension.get_node_list()
        return found

    return {node.define_schema().node_id: node for node in asyncio.run(asked())}


# What they use only where it is there.
USED_WHERE_THERE = (
    ("comfy_api.latest", "io.Autogrow.Input", 1, ("template", "optional", "tooltip")),
    ("comfy_api.latest", "io.Autogrow.TemplateNames", 1, ("names", "min")),
)

# What the nodes use: module, name, and how many positional arguments they give, with the names of the others.
USED = (
    ("folder_paths", "add_model_folder_path", 2, ()),
    ("folder_paths", "get_folder_paths", 1, ()),
    ("folder_paths", "get_full_path", 2, ()),
    ("folder_paths", "get_output_directory", 0, ()),
    ("folder_paths", "get_temp_directory", 0, ()),
    ("folder_paths", "get_input_directory", 0, ()),
    ("folder_paths", "get_user_directory", 0, ()),
    ("comfy.model_management", "throw_exception_if_processing_interrupted", 0, ()),
    ("comfy.model_management", "unload_all_models", 0, ()),
    ("comfy.model_management", "soft_empty_cache", 0, ()),
    ("comfy_execution.utils", "get_executing_context", 0, ()),
    ("server", "PromptServer.add_on_prompt_handler", 2, ()),
    ("comfy.utils", "ProgressBar", 1, ()),
    ("comfy.utils", "ProgressBar.update_absolute", 4, ()),
    ("comfy_api.latest", "InputImpl.VideoFromFile", 1, ()),
    ("comfy_api.latest", "ui.PreviewVideo", 1, ()),
    ("comfy_api.latest", "ui.SavedResult", 3, ()),
    ("comfy_api.latest", "io.Custom", 1, ()),
    ("comfy_api.latest", "io.NodeOutput", 5, ("ui",)),
    (
        "comfy_api.latest",
        "io.Schema",
        0,
        ("node_id", "display_name", "category", "description", "inputs", "outputs", "is_output_node"),
    ),
    ("comfy_api.latest", "io.Combo.Input", 1, ("options", "default", "tooltip")),
    ("comfy_api.latest", "io.String.Input", 1, ("default", "multiline", "optional", "tooltip")),
    (
        "comfy_api.latest",
        "io.Int.Input",
        1,
        ("default", "min", "max", "step", "control_after_generate", "optional", "tooltip"),
    ),
    ("comfy_api.latest", "io.Float.Input", 1, ("default", "min", "max", "step", "tooltip")),
    ("comfy_api.latest", "io.Boolean.Input", 1, ("default", "tooltip")),
    ("comfy_api.latest", "io.Image.Input", 1, ("tooltip",)),
    ("comfy_api.latest", "io.Image.Output", 0, ("display_name", "tooltip", "is_output_list")),
    ("comfy_api.latest", "io.Video.Output", 0, ("display_name", "tooltip", "is_output_list")),
    ("comfy_api.latest", "io.String.Output", 0, ("display_name", "tooltip", "is_output_list")),
)
