"""A trace of chosen steps: only where the environment asks for one, and of those steps alone."""

import json
import subprocess
import sys

import pytest
from guard import HANGS
from hypothesis import given, strategies as st

from holo_lite import MemorySink, Options, Pipeline, finish, load_storyboard
from holo_lite.errors import SettingsError
from holo_lite.render.profiling import PROFILE, STEPS, _range, profiled

SMALL = Options(frames=5, height=32, width=32, steps=4, cfg=1)


@pytest.mark.parametrize("steps", [None, "1", "2-4"])
def test_the_trace_names_the_operations_of_a_step(tmp_path, monkeypatch, steps):
    monkeypatch.setenv(PROFILE, str(tmp_path / "trace.json"))
    if steps:
        monkeypatch.setenv(STEPS, steps)
    finish(Pipeline.load().generate(load_storyboard("a road"), MemorySink(), SMALL))
    names = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {"aten::linear", "aten::scaled_dot_product_attention"} <= names


def test_a_run_without_such_a_step_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(PROFILE, str(tmp_path / "trace.json"))
    monkeypatch.setenv(STEPS, "9")
    finish(Pipeline.load().generate(load_storyboard("a road"), MemorySink(), SMALL))
    assert list(tmp_path.iterdir()) == []


def test_without_the_variable_steps_are_what_they_were(monkeypatch):
    monkeypatch.delenv(PROFILE, raising=False)
    steps = iter([1, 2])
    assert profiled(steps, 0) is steps


def test_nothing_of_the_profiler_comes_in_unasked():
    code = "import sys, holo_lite.render.denoise_phase; print('torch.profiler.profiler' in sys.modules)"
    plain = "import sys, torch; print('torch.profiler.profiler' in sys.modules)"
    found = [
        subprocess.run([sys.executable, "-c", each], capture_output=True, text=True, timeout=HANGS).stdout
        for each in (code, plain)
    ]
    assert found[0] == found[1]


@given(st.integers(1, 99), st.integers(0, 9))
def test_steps_are_read_as_they_are_written(first, more):
    assert _range(f"{first}-{first + more}") == (first, first + more)
    assert _range(str(first)) == (first, first)


@pytest.mark.parametrize("text", ["", "0", "3-2", "a", "1-b", "-1"])
def test_what_names_no_step_is_one_line(text):
    with pytest.raises(SettingsError, match=r"give a step or two of them, such as 2-3$"):
        _range(text)
