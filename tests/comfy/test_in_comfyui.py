"""The nodes in a real ComfyUI: COMFYUI=its checkout COMFYUI_PYTHON=its Python pytest tests/comfy."""

import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from comfy_graph import prompt_of
from comfy_server import CHECKOUT, HANGS, PACK, PYTHON, Comfy, Listener
from comfy_stand_in import USED, USED_WHERE_THERE, Host
from PIL import Image
from studio_process import CHROMIUM, PLAYWRIGHT, chromium

from holo_lite import Options, Pipeline
from holo_lite.render.sinks import MemorySink

pytestmark = pytest.mark.skipif(not CHECKOUT, reason="no ComfyUI here: name its checkout in COMFYUI")

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
NODES = {"Model", "Storyboard", "StoryboardTOML", "Picture", "Plan", "Check", "Generate", "Retake", "Extend"}
SCENE = "[character1] is a red square. The setting is a striped grey wall."
SHOTS = "Wide shot of [character1], still.\n\nClose-up of [character1], moving up."
PYTHON_SETTING = "HoloCine.Python"
END = ("execution_success", "execution_error", "execution_interrupted")
BIND = """
import importlib, inspect, json, operator, sys
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[:1] + ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import utils.install_util  # as main.py does, before nodes.py puts another `utils` in front of it
found = {}
for module, name, positional, named in json.loads(sys.stdin.read()):
    if name.startswith("io.Autogrow") and not hasattr(importlib.import_module(module).io, "Autogrow"):
        continue  # a version before it
    thing = operator.attrgetter(name)(importlib.import_module(module))
    try:
        inspect.signature(thing).bind(*[None] * positional, **dict.fromkeys(named))
    except TypeError as error:
        found[name] = str(error)
print("found", json.dumps(found))
"""


def graph(**generate):
    model = {"model": "holo-tiny (built in)", "profile": "auto", "kernel": "auto", "compute": "auto"}
    size = {"width": 32, "height": 32, "steps": 4, "cfg": 0.0, "negative": "", "draft": False}
    watched = {"preview_every": 1, "name": "film"}
    board = {"scene": SCENE, "shots": SHOTS, "frames": 13, "cuts": "5"}
    joined = {"model": ["1", 0], "storyboard": ["2", 0]}
    return {
        "1": {"class_type": "HoloCineModel", "inputs": {**model, "adapters": "", "keep_open": 60}},
        "2": {"class_type": "HoloCineStoryboard", "inputs": board},
        "3": {
            "class_type": "HoloCineGenerate",
            "inputs": {**joined, "seed": 3, **size, **watched, **generate},
        },
    }


@pytest.fixture(scope="module")
def comfy(tmp_path_factory):
    found = Comfy(tmp_path_factory.mktemp("comfyui"))
    found.start()
    yield found
    found.kill()


@pytest.fixture
def page(comfy):
    found = Listener(comfy, "page")
    yield found
    found.close()


def outputs(entry):
    assert entry["status"]["status_str"] == "success", entry["status"]
    return entry["outputs"]


def error_of(entry):
    assert entry["status"]["status_str"] == "error"
    (found,) = (each for kind, each in entry["status"]["messages"] if kind == "execution_error")
    return found["exception_message"].strip()


def test_the_stand_in_takes_what_the_real_ones_take():
    words = [PYTHON, "-c", BIND, CHECKOUT]
    used = [*USED, *USED_WHERE_THERE]
    real = subprocess.run(
        words, input=json.dumps(used), capture_output=True, text=True, timeout=HANGS, cwd=CHECKOUT, check=False
    )
    assert real.stdout.splitlines()[-1] == "found {}", real.stdout + real.stderr
    modules = Host(Path("/none")).modules()
    import inspect
    import operator

    for module, name, positional, named in used:
        thing = operator.attrgetter(name)(modules[module])
        inspect.signature(thing).bind(*[None] * positional, **dict.fromkeys(named))


def test_the_nodes_their_help_and_the_workflows_are_there(comfy):
    info = json.loads(comfy.get("/object_info"))
    ours = {name for name, each in info.items() if each["category"] == "HoloCine"}
    assert ours == {f"HoloCine{name}" for name in NODES}
    for name in ours:
        assert comfy.get(f"/extensions/{PACK}/docs/{name}/en.md").startswith(b"# HoloCine")
    templates = json.loads(comfy.get("/workflow_templates"))
    assert {name: sorted(each) for name, each in templates.items()} == {PACK: [each.stem for each in WORKFLOWS]}
    for each in WORKFLOWS:
        assert comfy.get(f"/api/workflow_templates/{PACK}/{each.stem}.jpg")[:2] == b"\xff\xd8"
    assert "holocine" in json.loads(comfy.get("/models"))


def with_pictures(prompt, prefix):
    """The same with every frame saved."""
    saved = {"images": ["3", 0], "filename_prefix": prefix}
    return {**prompt, "4": {"class_type": "SaveImage", "inputs": saved}}


def pictures_of(comfy, number):
    """The frames that a graph has saved, in their order."""
    saved = [each["filename"] for each in outputs(comfy.history(number))["4"]["images"]]
    return np.stack([np.array(Image.open(comfy.base / "output" / name)) for name in saved])


def of_the_command_line(seed):
    sink = MemorySink()
    board = f"[global caption] {SCENE} This scene contains 2 shots. [per shot caption] "
    board += SHOTS.replace("\n\n", " [shot cut] ")
    options = Options(width=32, height=32, steps=4, seed=seed, frames=13, cuts=(5,))
    for _ in Pipeline.load().generate(board, sink, options):
        pass
    return sink.numpy()


def test_frames_are_those_of_the_command_line_to_the_bit_and_progress_is_shown(comfy, page):
    number = comfy.queue(with_pictures(graph(), "frame"), "page")["prompt_id"]
    assert page.until(*END)["type"] == "execution_success", page.told
    assert np.array_equal(pictures_of(comfy, number), of_the_command_line(3))
    values = [each["data"]["value"] for each in page.told if each["type"] == "progress"]
    assert values == sorted(values)
    assert values[-1] == 1000
    assert page.pictures == 5, "four steps, and the sheet"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_an_example_workflow_runs(path, comfy):
    prompt = prompt_of(json.loads(path.read_text(encoding="utf-8")))
    found = outputs(comfy.run(prompt))
    films = [key for key, each in prompt.items() if each["class_type"] in {f"HoloCine{name}" for name in MAKERS}]
    assert films
    for key in films:
        (film,) = found[key]["images"]
        assert (comfy.base / "output" / film["subfolder"] / film["filename"]).is_file()


MAKERS = ("Generate", "Retake", "Extend")


def test_a_batch_of_seeds_is_made_as_the_command_line_makes_each(comfy, page):
    prompt = with_pictures(graph(seed=61, seeds=2), "batch")
    retake = {"film": ["3", 3], "shot": 2, "caption": "", "seed": -1, "preview_every": 0, "name": "again"}
    prompt["5"] = {"class_type": "HoloCineRetake", "inputs": retake}
    number = comfy.queue(prompt, "page")["prompt_id"]
    assert page.until(*END)["type"] == "execution_success", page.told
    frames = pictures_of(comfy, number)
    assert np.array_equal(frames, np.concatenate([of_the_command_line(61), of_the_command_line(62)]))
    found = outputs(comfy.history(number))
    assert [len(found[key]["images"]) for key in ("3", "5")] == [2, 2]
    values = [each["data"]["value"] for each in page.told if is_progress(each, "3")]
    assert values == sorted(values)
    assert values[-1] == 2000


def test_captions_of_other_nodes_are_shots(comfy):
    info = json.loads(comfy.get("/object_info/HoloCineStoryboard"))["HoloCineStoryboard"]
    if "captions" not in info["input"]["optional"]:
        pytest.skip("this ComfyUI has no inputs that grow")
    first, second = SHOTS.split("\n\n")
    prompt = with_pictures(graph(), "grown")
    prompt["2"]["inputs"] |= {"shots": first, "captions.caption1": ["6", 0]}
    prompt["6"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": second}}
    number = comfy.queue(prompt)["prompt_id"]
    assert np.array_equal(pictures_of(comfy, number), of_the_command_line(3))


def is_progress(message, node):
    return message["type"] == "progress" and message["data"]["node"] == node


def test_an_interrupted_batch_goes_on_in_the_film_that_it_was_at(comfy, page):
    prompt = graph(steps=20, seed=71, seeds=2)
    comfy.queue(prompt, "page")
    page.until(*END, pictures=20 + 1 + 3)  # the first film's steps and its sheet
    comfy.post("/interrupt", {})
    assert page.until(*END)["type"] == "execution_interrupted"
    page.forget()
    comfy.queue(prompt, "page")
    assert page.until(*END)["type"] == "execution_success", page.told
    assert 1 + 1 < page.pictures <= 1 + 17 + 1, "the first film's sheet, steps that were left, and a sheet"


def test_an_interrupted_run_ends_and_goes_on(comfy, page):
    prompt = graph(steps=60, seed=11)
    comfy.queue(prompt, "page")
    page.until(*END, pictures=3)
    comfy.post("/interrupt", {})
    assert page.until(*END)["type"] == "execution_interrupted"
    page.forget()
    comfy.queue(prompt, "page")
    assert page.until(*END)["type"] == "execution_success", page.told
    assert 1 < page.pictures <= 58


def test_a_model_of_extra_model_paths_is_offered_and_renders(comfy):
    info = json.loads(comfy.get("/object_info/HoloCineModel"))["HoloCineModel"]
    assert info["input"]["required"]["model"][1]["options"] == ["holo-tiny (built in)", "tiny"]
    prompt = graph(seed=51)
    prompt["1"]["inputs"]["model"] = "tiny"
    outputs(comfy.run(prompt))


def test_two_graphs_that_are_queued_are_both_made(comfy):
    numbers = [comfy.queue(graph(seed=seed))["prompt_id"] for seed in (21, 22)]
    names = {outputs(comfy.history(number))["3"]["images"][0]["filename"] for number in numbers}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("key", "name", "value", "word"),
    [("2", "cuts", "5, x", "numbers"), ("1", "adapters", "a", "high="), ("3", "name", "/", "letter")],
)
def test_what_is_typed_wrong_is_refused_before_anything_runs(comfy, key, name, value, word):
    prompt = graph()
    prompt[key]["inputs"][name] = value
    (error,) = comfy.queue(prompt)["node_errors"][key]["errors"]
    assert word in error["details"]
    assert "\n" not in error["details"]


@pytest.mark.parametrize(
    ("key", "name", "value", "word"),
    [("2", "frames", 14401, "14401 frames"), ("2", "cuts", "5, 9", "cuts"), ("3", "width", 33, "33")],
)
def test_what_the_plan_refuses_is_refused_before_anything_runs(comfy, key, name, value, word):
    prompt = graph(width=4096, height=4096) if name == "frames" else graph()
    prompt[key]["inputs"] |= {name: value} if name != "frames" else {name: value, "cuts": ""}
    sizes = {size: prompt["3"]["inputs"][size] for size in ("width", "height", "steps")}
    joined = {"model": ["1", 0], "storyboard": ["2", 0]}
    prompt["4"] = {"class_type": "HoloCinePlan", "inputs": {**joined, **sizes}}
    answer = comfy.queue(prompt)
    assert "prompt_id" not in answer
    for node in ("3", "4"):
        (error,) = answer["node_errors"][node]["errors"]
        assert word in error["details"]
        assert "\n" not in error["details"]


@pytest.mark.parametrize(("frames", "word"), [(13, "no caption"), (14401, "14401 frames")])
def test_what_other_nodes_decide_is_one_red_line_when_they_have_run(comfy, frames, word):
    prompt = graph(width=4096, height=4096)
    text = " " if frames == 13 else SHOTS
    prompt["2"]["inputs"] |= {"frames": frames, "cuts": "", "shots": ["6", 0]}
    prompt["6"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": text}}
    said = error_of(comfy.run(prompt))
    assert word in said
    assert "\n" not in said


def test_comfyui_holds_nothing_of_ours_by_name_and_one_process_of_each_kind(comfy):
    outputs(comfy.run(graph(seed=31)))
    found = outputs(comfy.run({"1": {"class_type": "Probe", "inputs": {"any": 1}}}))["1"]
    assert found["modules"] == []
    assert sorted(each.split(" -m ")[1].split()[0] for each in found["children"]) == [
        "holo_lite.web.planner",
        "holo_lite.worker",
    ]


def test_after_comfyui_was_killed_the_same_graph_goes_on_and_nobody_is_left(comfy, page):
    prompt = graph(steps=60, seed=41)
    comfy.queue(prompt, "page")
    page.until(*END, pictures=3)
    (renderer,) = (each for each in Path("/proc").glob("[0-9]*") if is_renderer(each, comfy))
    comfy.kill()
    deadline = time.monotonic() + HANGS
    while renderer.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not renderer.exists()
    comfy.start()
    again = Listener(comfy, "again")
    comfy.queue(prompt, "again")
    assert again.until(*END)["type"] == "execution_success", again.told
    assert 1 < again.pictures <= 59
    again.close()


def test_the_python_is_named_on_comfyuis_page(tmp_path):
    program = chromium() or pytest.skip(CHROMIUM)
    playwright = pytest.importorskip("playwright.sync_api", reason=PLAYWRIGHT)
    alone = Comfy(tmp_path)
    alone.start(named=False)
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{alone.port}/")
            there = f"window.app?.ui?.settings?.settingsLookup?.['{PYTHON_SETTING}']"
            page.wait_for_function(there, timeout=HANGS * 1000)
            put = f"path => app.extensionManager.setting.set('{PYTHON_SETTING}', path)"
            page.evaluate(put, str(tmp_path / "none"))
            assert "has no holo-lite" in error_of(alone.run(graph()))
            page.evaluate(put, str(alone.renderer))
            outputs(alone.run(graph()))
            page.evaluate(put, str(tmp_path / "input" / "python"))
            assert "pages can put files" in error_of(alone.run(graph(seed=9)))
            browser.close()
    finally:
        alone.kill()


def is_renderer(process, comfy):
    """Whether a process is the one that renders for this ComfyUI."""
    try:
        words = (process / "cmdline").read_bytes()
        environment = (process / "environ").read_bytes()
    except OSError:
        return False
    return b"holo_lite.worker" in words and os.fsencode(comfy.base) in environment
