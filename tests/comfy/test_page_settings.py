"""The interpreter that is named on ComfyUI's page: where it is heeded, and what a page must not name."""

import json
import re
import sys

import pytest
from comfy_stage import ROOT, comfy, graph, ours, quiet, refusal  # noqa: F401 - fixtures


@pytest.fixture
def on_page(comfy, monkeypatch):
    """Sets the interpreter on ComfyUI's page, where nobody has named one to ComfyUI itself."""
    monkeypatch.delenv("HOLO_LITE_PYTHON")
    file = comfy.folder / "user" / "default" / "comfy.settings.json"
    file.parent.mkdir(parents=True, exist_ok=True)

    def put(value):
        file.write_text(json.dumps({"Comfy.Locale": "en", "HoloCine.Python": value}))

    yield put
    file.unlink(missing_ok=True)


def test_without_holo_lite_the_node_says_what_to_type(comfy, on_page, tmp_path):
    none = tmp_path / "python"
    on_page(str(none))
    said = refusal(comfy, graph()).splitlines()
    assert str(none) in said[0]
    assert "settings, under HoloCine" in said[0]
    assert said[1].startswith("python3 -m venv")
    assert "-m pip install" in said[2]
    assert len(said) == 3
    found = ours(comfy, "interpreters").Interpreters(clone=tmp_path)
    assert found.choose() == sys.executable, "ComfyUI's own has it"


def test_who_starts_comfyui_names_the_python_before_its_page_does(comfy, on_page, monkeypatch, tmp_path):
    own = tmp_path / "python"
    own.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    own.chmod(0o755)
    on_page(f" {own} ")
    interpreters = ours(comfy, "sharing").SESSION.interpreters
    assert interpreters.choose() == str(own)
    monkeypatch.setenv("HOLO_LITE_PYTHON", sys.executable)
    assert interpreters.choose() == sys.executable


@pytest.mark.parametrize("value", [None, 3, "", "  ", ["/usr/bin/python3"]])
def test_a_setting_that_names_nothing_is_none(comfy, on_page, value):
    on_page(value)
    assert ours(comfy, "page_settings").python_on_page() == ""


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_settings_that_cannot_be_read_are_none(comfy, on_page, text):
    on_page("")
    (comfy.folder / "user" / "default" / "comfy.settings.json").write_text(text)
    assert ours(comfy, "page_settings").python_on_page() == ""


NETWORKS = ["\\\\host\\share\\python.exe", "//host/share/python", "\\/host/python", "\\\\?\\UNC\\host\\python"]


@pytest.mark.parametrize("value", ["python3", "./python", "/usr/bin/py\0thon", "/usr/bin/py\nthon", *NETWORKS])
def test_a_page_names_a_whole_path_of_this_machine_or_nothing(comfy, on_page, value):
    on_page(value)
    said = refusal(comfy, graph())
    assert "whole path" in said
    assert "\n" not in said


@pytest.mark.parametrize("place", ["input", "output", "temp", "user", "models"])
def test_what_a_page_has_brought_here_is_never_run(comfy, on_page, tmp_path, place):
    brought = comfy.folder / place / "environment" / "python"
    brought.parent.mkdir(parents=True, exist_ok=True)
    brought.write_text("#!/bin/sh\ntouch ran\n")
    brought.chmod(0o755)
    (tmp_path / "link").symlink_to(brought)
    (tmp_path / "folder").symlink_to(brought.parent)
    named = [
        brought,
        tmp_path / "link",
        tmp_path / "folder" / "python",
        brought.parent / ".." / "environment" / "python",
    ]
    for each in named:
        on_page(str(each))
        assert "pages can put files" in refusal(comfy, graph())


def test_a_graph_names_no_program(comfy):
    """It may come from a stranger."""
    for node in comfy.nodes.values():
        assert not {"python", "interpreter", "command"} & {each.id for each in node.define_schema().inputs}


def test_the_page_and_the_node_name_the_setting_alike(comfy):
    script = (ROOT / "holo_lite" / "comfy" / "web" / "settings.js").read_text(encoding="utf-8")
    assert re.findall(r'id: "(.*)"', script) == [ours(comfy, "page_settings").PYTHON]
