"""The nodes over a render process with holo-tiny, in a stand-in for ComfyUI (support/comfy_stand_in.py)."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comfy_stand_in import Graph, Host, Interrupted, load_pack, nodes_of, prompt_of
from guard import HANGS
from PIL import Image

from holo_lite import Options, Pipeline
from holo_lite.film.video_frames import video_frames
from holo_lite.render.sinks import MemorySink

ROOT = Path(__file__).parents[2]
PACK = "/somewhere/custom_nodes/holo-lite_x_1"
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
MODEL = {"model": "holo-tiny (built in)", "profile": "auto", "kernel": "auto", "compute": "auto", "adapters": ""}
SHOTS = "Wide shot of [character1], still.\n\nClose-up of [character1], moving up."
SCENE = "[character1] is a red square. The setting is a striped grey wall."
WATCHED = {"preview_every": 1, "name": "film"}
SIZE = {"width": 32, "height": 32, "steps": 4, "cfg": 0.0, "negative": "", "draft": False}


def graph(**generate):
    return {
        "1": {"class_type": "HoloCineModel", "inputs": {**MODEL, "keep_open": 60, "python": ""}},
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


# --- the pack --------------------------------------------------------------------------------------


def test_loading_the_pack_imports_neither_ours_by_name_nor_torch(tmp_path):
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tests" / "support")!r})
from comfy_stand_in import Host, load_pack, nodes_of
sys.modules.update(Host(Path({str(tmp_path)!r})).modules())
before = set(sys.modules)
pack = load_pack(Path({str(ROOT)!r}), {PACK!r})
print(sorted(name for name in set(sys.modules) - before if name != {PACK!r}))
nodes_of(pack)
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("torch", "holo_lite", "quantize")))
"""
    words = [sys.executable, "-S", "-P", "-c", script]  # no site: an editable install would find holo_lite
    done = subprocess.run(words, capture_output=True, text=True, timeout=HANGS, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_every_input_and_output_has_a_tooltip_and_a_help_page_names_it(comfy):
    for name, node in comfy.nodes.items():
        schema = node.define_schema()
        page = (ROOT / "holo_lite" / "comfy" / "web" / "docs" / name / "en.md").read_text(encoding="utf-8")
        assert schema.category == "HoloCine"
        assert schema.description
        assert page.startswith(f"# {schema.display_name}\n")
        named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
        assert named == {each.id for each in schema.inputs} | {each.display_name for each in schema.outputs}
        assert all(each.said.get("tooltip") for each in schema.inputs), name


def test_every_choice_is_there_and_every_setting_is_known(comfy):
    from holo_lite.kernels.registry import KERNELS
    from holo_lite.plan.profile import shipped_profiles
    from holo_lite.worker.order import ORDER

    choices = ours(comfy, "model_node")
    assert set(choices.PROFILES) == {"auto", *(each.name for each in shipped_profiles())}
    assert ("auto", *(each.name for each in KERNELS)) == choices.KERNELS
    current = ORDER.current
    assert {"version": current.version, "runs_from": current.runs_from} == ours(comfy, "orders").VERSION


def test_settings_of_the_registry_are_there():
    import tomllib

    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert found["tool"]["comfy"]["PublisherId"] == ""
    assert found["tool"]["comfy"]["DisplayName"]


# --- films -----------------------------------------------------------------------------------------


def test_frames_are_those_of_the_command_line_to_the_bit(comfy):
    done = Graph(comfy.nodes, graph()).run()["3"]
    frames, video, sheet, film, settings = done.args
    sink = MemorySink()
    options = Options(width=32, height=32, steps=4, seed=3, frames=13, cuts=(5,))
    board = f"[global caption] {SCENE} This scene contains 2 shots. [per shot caption] " + SHOTS.replace(
        "\n\n", " [shot cut] "
    )
    for _ in Pipeline.load().generate(board, sink, options):
        pass
    assert frames.dtype == torch.float32
    assert torch.equal((frames * 255).byte(), sink.tensor())  # as ComfyUI makes bytes of them
    assert len(list(video_frames(Path(video.file)))) == 13
    assert Path(video.file) == film.video
    assert sheet.shape[0] == 1
    assert json.loads(settings)["seed"] == 3
    assert [each["subfolder"] for each in done.shown[0].values] == ["holocine"]
    assert comfy.emptied == 2
    values = [value for value, _, _ in comfy.shown]
    assert values == sorted(values)
    assert values[-1] == 1000
    previews = [each for _, _, each in comfy.shown if each is not None]
    assert [(form, size) for form, _, size in previews] == [("JPEG", 512)] * 5, "four steps, and the sheet"
    assert not list((comfy.folder / "temp" / "holocine").glob("*.rgb"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_an_example_workflow_is_made_of_our_nodes_and_sound(path, comfy):
    prompt = prompt_of(json.loads(path.read_text(encoding="utf-8")))
    for each in prompt.values():
        if each["class_type"] in comfy.nodes:
            inputs = comfy.nodes[each["class_type"]].define_schema().inputs
            needed = {found.id for found in inputs if not found.said.get("optional")}
            assert needed <= set(each["inputs"]) <= {found.id for found in inputs}
    assert Graph(comfy.nodes, prompt).faults() == {}
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.format == "JPEG"


def told(node):
    """The settings of a node's films."""
    return [json.loads(each) for each in node.values[4]]


def test_several_seeds_are_several_films_each_as_alone(comfy):
    many = {**graph(seed=7, seeds=2, preview_every=0), "4": retake(["3", 3])}
    done = Graph(comfy.nodes, many).run()
    bars = [(value, total) for value, total, _ in comfy.shown]
    batch = [value for value, total in bars if total == 2000]
    assert batch == sorted(batch)
    assert batch[-1] == 2000
    assert [each["seed"] for each in told(done["3"])] == [7, 8]
    assert [each.seed for each in done["3"].values[3]] == [7, 8]
    assert len(done["3"].shown[0].values) == 2
    assert len(done["4"].shown) == 2, "a shot of each is made again"
    assert [each["seed"] for each in told(done["4"])] == [8, 9]
    for seed, frames in zip((7, 8), done["3"].values[0], strict=True):
        alone = Graph(comfy.nodes, graph(seed=seed, preview_every=0)).run()["3"].args[0]
        assert torch.equal(frames, alone)


def retake(film, **said):
    inputs = {"film": film, "shot": 2, "caption": "", "seed": -1, "preview_every": 0, "name": "film", **said}
    return {"class_type": "HoloCineRetake", "inputs": inputs}


def test_seeds_that_nobody_said_are_counted_from_those_of_the_film(comfy):
    story = {"scene": SCENE, "shots": SHOTS, "frames": 8, "cuts": ""}
    watched = {"preview_every": 0, "name": "film", "seeds": 2}
    more = {
        **graph(seed=2**32 - 1, preview_every=0),
        "4": retake(["3", 3], seeds=2),
        "5": retake(["3", 3], caption="Wide shot of [character1], moving up.", seeds=2),
        "6": {"class_type": "HoloCineStoryboard", "inputs": story},
        "7": {
            "class_type": "HoloCineExtend",
            "inputs": {"film": ["3", 3], "storyboard": ["6", 0], "remember": "1", "seed": -1, **watched},
        },
    }
    done = Graph(comfy.nodes, more).run()
    assert [each["seed"] for each in told(done["4"])] == [0, 1], "the film's would change nothing"
    assert [each["seed"] for each in told(done["5"])] == [2**32 - 1, 0]
    assert [each["seed"] for each in told(done["7"])] == [2**32 - 1, 0]


def test_an_interrupted_batch_goes_on_in_the_film_that_it_was_at(comfy):
    many = graph(steps=8, seed=100, seeds=2)
    first = 8 + 1  # the previews of a film, and its sheet
    comfy.interrupt = lambda: sum(each is not None for _, _, each in comfy.shown) >= first + 3
    with pytest.raises(Interrupted):
        Graph(comfy.nodes, many).run()
    comfy.interrupt = lambda: False
    comfy.shown.clear()
    Graph(comfy.nodes, many).run()
    previews = [value for value, _, each in comfy.shown if each is not None]
    assert len([value for value in previews if value <= 1000]) == 1, "of the first film the sheet alone"
    assert 1 < len([value for value in previews if value > 1000]) <= 6 + 1
    assert not list((comfy.folder / "temp" / "holocine").glob("*.rgb"))


def test_a_shot_is_made_again_with_a_picture_and_the_story_goes_on(comfy):
    image = torch.zeros(2, 40, 50, 3)
    image[:, :, :25, 0] = 1
    (pictures,) = (
        comfy.nodes["HoloCinePicture"].execute(image, "reference", 1, "Close-up of [character1], still.").args
    )
    more = {
        **graph(),
        "4": {
            "class_type": "HoloCineRetake",
            "inputs": {"film": ["3", 3], "shot": 2, "caption": "", "seed": -1, **WATCHED},
        },
        "5": {
            "class_type": "HoloCineExtend",
            "inputs": {"film": ["4", 3], "storyboard": ["6", 0], "remember": "1", "seed": 5, **WATCHED},
        },
        "6": {
            "class_type": "HoloCineStoryboard",
            "inputs": {"scene": SCENE, "shots": SHOTS, "frames": 8, "cuts": "", "pictures": pictures[:1]},
        },
    }
    done = Graph(comfy.nodes, more).run()
    before, again = done["3"].args[0], done["4"].args[0]
    assert before.shape == again.shape
    assert not torch.equal(before, again)
    extended = json.loads(done["5"].args[4])
    assert extended["seed"] == 5
    assert len(extended["frozen"]["shots"]) == 2, "a shot that is remembered, and the picture"
    assert [each.shot for each in pictures] == [None, None]


def test_an_interrupted_run_ends_at_once_and_goes_on(comfy):
    long = graph(steps=20)
    comfy.interrupt = lambda: sum(each is not None for _, _, each in comfy.shown) >= 3
    with pytest.raises(Interrupted):
        Graph(comfy.nodes, long).run()
    comfy.interrupt = lambda: False
    comfy.shown.clear()
    Graph(comfy.nodes, long).run()
    previews = [each for _, _, each in comfy.shown if each is not None]
    assert 1 < len(previews) <= 18


def test_a_process_that_is_killed_is_a_red_line_and_the_next_run_goes_on(comfy):
    session, long = ours(comfy, "sharing").SESSION, graph(steps=10, seed=4, preview_every=0)

    def kill():
        if len(comfy.shown) > 5 and session.process is not None:
            session.process.kill()
        return False

    comfy.interrupt = kill
    said = refusal(comfy, long)
    assert said.startswith("the render process ended")
    assert "\n" not in said
    comfy.interrupt = lambda: False
    assert len(Graph(comfy.nodes, long).run()["3"].args[0]) == 13


# --- what is wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "name", "value", "word"),
    [
        ("2", "cuts", "5, x", "list of numbers"),
        ("1", "adapters", "fast.safetensors", "high=NAME"),
        ("3", "name", "///", "letter or digit"),
    ],
)
def test_what_is_typed_wrong_is_red_before_anything_runs(comfy, key, name, value, word):
    prompt = graph()
    prompt[key]["inputs"][name] = value
    ((where, said),) = Graph(comfy.nodes, prompt).faults().items()
    assert where == key
    assert word in said
    assert "\n" not in said
    assert Graph(comfy.nodes, graph()).faults() == {}


def test_a_text_that_is_no_toml_is_red_before_anything_runs(comfy):
    node = comfy.nodes["HoloCineStoryboardTOML"]
    assert "TOML" in node.validate_inputs("[[shot]\n")
    assert "empty" in node.validate_inputs("")
    assert node.validate_inputs(None) is True
    assert node.validate_inputs(ours(comfy, "story_nodes").TOML) is True


@pytest.mark.parametrize(
    ("key", "name", "value", "word"),
    [
        ("2", "shots", " \n\n ", "no caption"),
        ("2", "cuts", "5, 9", "cuts"),
        ("2", "scene", "", "global"),
        ("3", "width", 33, "33"),
        ("1", "model", "not-there", "not-there"),
        ("1", "adapters", "high=none.safetensors", "none.safetensors"),
    ],
)
def test_what_cannot_be_made_is_red_in_one_line(comfy, key, name, value, word):
    prompt = graph()
    prompt[key]["inputs"][name] = value
    said = refusal(comfy, prompt)
    assert word in said
    assert "\n" not in said


def test_a_plan_and_a_check_are_told_in_words(comfy):
    looked = graph()
    del looked["3"]
    asked = {"model": ["1", 0], "storyboard": ["2", 0]}
    looked["4"] = {"class_type": "HoloCinePlan", "inputs": {**asked, "width": 64, "height": 48, "steps": 4}}
    looked["5"] = {"class_type": "HoloCineCheck", "inputs": asked}
    done = Graph(comfy.nodes, looked).run()
    assert "64×48, 2 shots, 4 steps" in done["4"].args[0]
    assert "2 shots, 13 frames" in done["5"].args[0]
    looked["2"]["inputs"]["cuts"] = "5, 9"
    for other in ("4", "5"):
        found = {key: each for key, each in looked.items() if key in {"1", "2", other}}
        assert "cuts" in refusal(comfy, found)


def test_without_holo_lite_the_node_says_what_to_type(comfy, monkeypatch, tmp_path):
    none = tmp_path / "python"
    prompt = graph()
    prompt["1"]["inputs"]["python"] = str(none)
    said = refusal(comfy, prompt).splitlines()
    assert str(none) in said[0]
    assert "HOLO_LITE_PYTHON" in said[0]
    assert said[1].startswith("python3 -m venv")
    assert "-m pip install" in said[2]
    assert len(said) == 3
    monkeypatch.delenv("HOLO_LITE_PYTHON")
    found = ours(comfy, "interpreters").Interpreters(clone=tmp_path)
    assert found.choose("") == sys.executable, "ComfyUI's own has it"


def test_models_are_those_of_every_folder_and_a_change_is_noticed(comfy, tmp_path):
    folders, node = ours(comfy, "folders"), comfy.nodes["HoloCineModel"]
    one, two = tmp_path / "one", tmp_path / "two"
    for place in (one / "nf4", two / "int8", two / "nf4"):
        place.mkdir(parents=True)
        (place / "model.json").write_text("{}")
    (two / "unfinished").mkdir()
    comfy.model_folders["holocine"] += [str(one), str(two), str(tmp_path / "none")]
    assert folders.model_names() == ["holo-tiny (built in)", "int8", "nf4"]
    assert folders.model_folder("nf4") == str(one / "nf4")
    before = node.fingerprint_inputs("nf4", adapters="")
    assert before == node.fingerprint_inputs("nf4", adapters="")
    (one / "nf4" / "model.json").write_text('{"changed": true}')
    assert node.fingerprint_inputs("nf4", adapters="") != before


def test_adapters_have_an_expert_and_a_strength(comfy, tmp_path):
    (tmp_path / "fast.safetensors").touch()
    comfy.model_folders["loras"] = [str(tmp_path)]
    file = str(tmp_path / "fast.safetensors")
    found = ours(comfy, "model_node").adapters_of(
        f"high=fast.safetensors\n\nlow=fast.safetensors:0.8\nlow={file}:2"
    )
    assert found == {"high_noise": [(file, 1.0)], "low_noise": [(file, 0.8), (file, 2.0)]}
