"""A profile holds the steps that were asked for and what was computed in them; without one nothing is done."""

import json

import pytest
import torch
from hypothesis import given, strategies as st

from holo_lite.errors import SettingsError
from holo_lite.render import profiling
from holo_lite.render.profiling import PATH, STEPS, chosen, profiled

WORDS = ("generate", "a road", "--device", "cpu", "--steps", 4, "--frames", 9, "--height", 32, "--width", 32)


def steps_of(count, done=0, fails_at=None):
    """A run's steps, each of which multiplies by a matrix as wide as its number."""
    for number in range(done + 1, count + 1):
        if number == fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        torch.mm(torch.ones(1, 100 + number), torch.ones(100 + number, 1))
        yield number


def events(path):
    return json.loads(path.read_text(encoding="utf-8"))["traceEvents"]


def steps_in(path):
    names = {event.get("name", "") for event in events(path)}
    return sorted(int(name.removeprefix("step ")) for name in names if name.startswith("step "))


def multiplied(path):
    """The widths of the matrices that were multiplied."""
    found = [event["args"]["Input Dims"][0] for event in events(path) if event.get("name") == "aten::mm"]
    return sorted(width - 100 for _, width in found)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    def ask(steps=None):
        monkeypatch.setenv(PATH, str(tmp_path / "new" / "trace.json"))
        if steps is not None:
            monkeypatch.setenv(STEPS, steps)
        return tmp_path / "new" / "trace.json"

    return ask


def test_a_run_of_the_command_is_recorded_by_name(run, toy_copy, asked):
    trace = asked()
    assert run(*WORDS, "--model", toy_copy).code == 0
    assert steps_in(trace) == [2, 3]
    names = {event.get("name") for event in events(trace)}
    assert {"aten::linear", "aten::scaled_dot_product_attention"} <= names, "the transformer computes with these"


@pytest.mark.parametrize(
    ("words", "done", "expected"),
    [(None, 0, [2, 3]), ("1", 0, [1]), ("2-3", 2, [3]), ("4-9", 0, [4, 5]), ("3-3", 0, [3])],
)
def test_the_chosen_steps_are_recorded_and_no_other(asked, words, done, expected):
    """Also of a run that goes on, and of one that ends before the last of them."""
    trace = asked(words)
    assert [*profiled(steps_of(5, done), done)] == [*range(done + 1, 6)]
    assert multiplied(trace) == expected
    assert [number for number in steps_in(trace) if number <= 5] == expected


@pytest.mark.parametrize(("words", "done"), [("7", 0), ("2-3", 3)])
def test_steps_that_a_run_does_not_have_leave_no_file(asked, words, done):
    trace = asked(words)
    assert [*profiled(steps_of(5, done), done)] == [*range(done + 1, 6)]
    assert not trace.exists()


def test_a_step_that_fails_is_recorded_when_it_is_repeated(asked):
    trace = asked()
    steps = profiled(steps_of(5, fails_at=3), 0)
    assert [next(steps), next(steps)] == [1, 2]
    with pytest.raises(torch.OutOfMemoryError):
        next(steps)
    assert not trace.exists()
    assert [*profiled(steps_of(5, 2), 2)] == [3, 4, 5]
    assert multiplied(trace) == [3]


def test_a_run_that_is_given_up_leaves_no_file_and_closes_its_steps(asked):
    trace = asked()
    inner = steps_of(5)
    steps = profiled(inner, 0)
    assert [next(steps), next(steps)] == [1, 2]
    steps.close()
    assert not trace.exists()
    assert next(inner, None) is None


def test_without_the_variable_the_steps_are_the_very_ones(monkeypatch):
    monkeypatch.delenv(PATH, raising=False)
    monkeypatch.setattr(profiling, "_recorded", lambda *_: pytest.fail("nobody asked for a profile"))
    steps = steps_of(3)
    assert profiled(steps, 0) is steps


@given(st.integers(1, 999), st.integers(0, 99))
def test_steps_are_read_as_they_are_written(first, more):
    assert chosen(f"{first}-{first + more}") == range(first, first + more + 1)
    assert chosen(f" {first} ") == range(first, first + 1)


@pytest.mark.parametrize("text", ["", "0", "0-3", "3-2", "-1", "two", "1,2", "1-2-3"])
def test_steps_that_are_none_are_refused_on_one_line(asked, text):
    asked(text)
    with pytest.raises(SettingsError, match="is not a step or a range of steps; write 5 or 2-3"):
        profiled(steps_of(3), 0)
