"""The nodes in the stand-in for ComfyUI (comfy_stand_in.py), over a render process with holo-tiny."""

import json
import sys
from pathlib import Path

import pytest
from comfy_graph import Graph
from comfy_stand_in import Host, load_pack, nodes_of

ROOT = Path(__file__).parents[2]
PACK = "/somewhere/custom_nodes/holo-lite_x_1"
MODEL = {"model": "holo-tiny (built in)", "profile": "auto", "kernel": "auto", "compute": "auto", "adapters": ""}
SHOTS = "Wide shot of [character1], still.\n\nClose-up of [character1], moving up."
SCENE = "[character1] is a red square. The setting is a striped grey wall."
WATCHED = {"preview_every": 1, "name": "film"}
SIZE = {"width": 32, "height": 32, "steps": 4, "cfg": 0.0, "negative": "", "draft": False}


def graph(**generate):
    return {
        "1": {"class_type": "HoloCineModel", "inputs": {**MODEL, "keep_open": 60}},
        "2": {
            "class_type": "HoloCineStoryboard",
            "inputs": {"scene": SCENE, "shots": SHOTS, "frames": 13, "cuts": "5"},
        },
        "3": {
            "class_type": "HoloCineGenerate",
            "inputs": {"model": ["1", 0], "storyboard": ["2", 0], "seed": 3, **SIZE, **WATCHED, **generate},
        },
    }


@pytest.fixture(scope="module")
def comfy(tmp_path_factory):
    """A stand-in with the pack in it, and its render process, for all tests of this file."""
    host = Host(tmp_path_factory.mktemp("comfyui"))
    with pytest.MonkeyPatch.context() as patch:
        for name, module in host.modules().items():
            patch.setitem(sys.modules, name, module)
        patch.setenv("HOLO_LITE_PYTHON", sys.executable)
        before = set(sys.modules)
        host.nodes = nodes_of(load_pack(ROOT, PACK))
        yield host
        ours(host, "sharing").SESSION.close()
        for name in set(sys.modules) - before:
            if name.startswith(PACK):
                del sys.modules[name]


@pytest.fixture(autouse=True)
def quiet(comfy):
    comfy.interrupt, comfy.emptied = (lambda: False), 0
    comfy.shown.clear()


def ours(host, name):
    """A module of the pack, by the name that it has in ComfyUI."""
    assert host.nodes, "the pack is loaded"
    return sys.modules[f"{PACK}.holo_lite.comfy.{name}"]


def refusal(comfy, prompt):
    """What a red node says."""
    with pytest.raises(ours(comfy, "handles").NodeError) as found:
        Graph(comfy.nodes, prompt).run()
    return str(found.value)


def retake(film, **said):
    inputs = {"film": film, "shot": 2, "caption": "", "seed": -1, "preview_every": 0, "name": "film", **said}
    return {"class_type": "HoloCineRetake", "inputs": inputs}


def told(node):
    """The settings of a node's films."""
    return [json.loads(each) for each in node.values[4]]
