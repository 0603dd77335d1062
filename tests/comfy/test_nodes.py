"""The nodes in a stand-in for ComfyUI: what they are, what they look at, and what they refuse."""

import asyncio
import json
import re
import subprocess
import sys

import pytest
from comfy_graph import Graph, prompt_of
from comfy_stage import PACK, ROOT, comfy, graph, ours, quiet, refusal  # noqa: F401 - fixtures
from guard import HANGS
from PIL import Image

WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))


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


def test_captions_of_other_nodes_are_more_shots_in_the_order_of_their_inputs(comfy):
    node = comfy.nodes["HoloCineStoryboard"]
    board = {"scene": "A wall.", "frames": 0, "cuts": ""}
    later = {"caption10": "five", "caption2": "four", "caption1": "three\n\nstill three", "caption3": " "}
    (story,) = node.execute(**board, shots="one\n\ntwo", captions=later).args
    assert [each["caption"] for each in story.tree["shot"]] == ["one", "two", "three still three", "four", "five"]
    (story,) = node.execute(**board, shots="", captions={"caption1": "one"}).args
    assert [each["caption"] for each in story.tree["shot"]] == ["one"]
    for none in (None, {}, {"caption1": None}):
        with pytest.raises(ours(comfy, "handles").NodeError, match="no caption"):
            node.execute(**board, shots="", captions=none)


def test_a_comfyui_without_inputs_that_grow_has_all_others(comfy, monkeypatch):
    node = comfy.nodes["HoloCineStoryboard"]
    with_them = [each.id for each in node.define_schema().inputs]
    monkeypatch.delattr(sys.modules["comfy_api.latest"].io, "Autogrow")
    assert [each.id for each in node.define_schema().inputs] == [name for name in with_them if name != "captions"]


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


@pytest.mark.parametrize(
    ("key", "name", "value", "word"),
    [
        ("2", "cuts", "5, x", "list of numbers"),
        ("1", "adapters", "fast.safetensors", "high=NAME"),
        ("1", "adapters", "high=\\\\host\\fast.safetensors", "network"),
        ("1", "adapters", "low=//host/fast.safetensors:0.5", "network"),
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


PLANNED = {"model": ["1", 0], "storyboard": ["2", 0], "width": 64, "height": 48, "steps": 4}
TOO_LARGE = {"width": 4096, "height": 4096}


def planned(**said):
    """A graph with a plan, in which the storyboard is as long as nothing has memory for."""
    found = {key: each for key, each in graph().items() if key != "3"}
    found["2"]["inputs"] |= {"frames": 14401, "cuts": ""}
    return {**found, "4": {"class_type": "HoloCinePlan", "inputs": {**PLANNED, **TOO_LARGE, **said}}}


def test_what_does_not_fit_is_red_before_anything_runs(comfy):
    prompt = planned()
    prompt["3"] = graph(**TOO_LARGE)["3"]
    said = Graph(comfy.nodes, prompt).faults()
    assert set(said) == {"3", "4"}
    assert "14401 frames at 4096×4096 need" in said["4"]
    assert all("\n" not in each for each in said.values())
    assert refusal(comfy, planned()) == said["4"], "the run says the same"
    prompt |= {"3": graph(**TOO_LARGE, draft=True)["3"], "4": planned(width=64, height=48)["4"]}
    assert Graph(comfy.nodes, prompt).faults() == {}, "a draft is smaller than that"


@pytest.mark.parametrize(
    ("key", "name", "value"),
    [
        ("2", "shots", ["5", 0]),
        ("2", "captions.caption1", ["5", 0]),
        ("2", "pictures", ["5", 0]),
        ("1", "profile", ["5", 0]),
        ("4", "width", ["5", 0]),
        ("4", "storyboard", ["5", 0]),
        ("4", "model", ["none", 0]),
        ("2", "shots", " "),
        ("1", "model", "not-there"),
    ],
)
def test_what_other_nodes_decide_is_judged_when_they_have_run(comfy, key, name, value):
    prompt = planned()
    prompt[key]["inputs"][name] = value
    assert Graph(comfy.nodes, prompt).faults() == {}


def test_a_queueing_is_not_refused_for_want_of_somebody_to_ask(comfy, monkeypatch):
    foreseeing = ours(comfy, "foreseeing")
    monkeypatch.setattr(foreseeing, "PATIENCE", -1.0)
    assert Graph(comfy.nodes, planned()).faults() == {}
    busy = {"state": "unknown", "why": "the card is full", "error": "RoomError"}
    monkeypatch.setattr(foreseeing, "asked_plan", lambda *_: busy)
    assert Graph(comfy.nodes, planned()).faults() == {}
    monkeypatch.setattr(foreseeing, "asked_plan", lambda *_: {**busy, "error": "SettingsError"})
    assert Graph(comfy.nodes, planned()).faults() == {"4": "the card is full"}


def test_an_interruption_of_another_graph_is_left_to_it(comfy):
    comfy.interrupt = lambda: True
    assert set(Graph(comfy.nodes, planned()).faults()) == {"4"}


def test_two_that_queue_at_once_are_each_told_of_their_own(comfy):
    async def both():
        large, small = (Graph(comfy.nodes, each)._faults() for each in (planned(), planned(width=64, height=48)))
        return await asyncio.gather(large, small)

    large, small = asyncio.run(both())
    assert (set(large), small) == ({"4"}, {})


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


def test_devices_that_compute_together_are_a_part_of_the_order_only_if_they_are_named(comfy):
    node, tiny = comfy.nodes["HoloCineModel"], ours(comfy, "folders").BUILT_IN
    (one,) = node.execute(tiny, "", 60, profile="auto").args
    (two,) = node.execute(tiny, "", 60, " cpu, cpu", profile="auto").args
    assert "devices" not in one.opening
    assert two.opening == {**one.opening, "devices": ["cpu", "cpu"]}


def test_adapters_have_an_expert_and_a_strength(comfy, tmp_path):
    (tmp_path / "fast.safetensors").touch()
    comfy.model_folders["loras"] = [str(tmp_path)]
    file = str(tmp_path / "fast.safetensors")
    found = ours(comfy, "model_node").adapters_of(
        f"high=fast.safetensors\n\nlow=fast.safetensors:0.8\nlow={file}:2"
    )
    assert found == {"high_noise": [(file, 1.0)], "low_noise": [(file, 0.8), (file, 2.0)]}
