"""Plans come from a process that answers the newest question, and is gone when nobody asks."""

import json
import queue
import subprocess
import sys

import pytest

from holo_lite.plan.machine import Machine
from holo_lite.system.cache_folder import CACHE_VARIABLE
from holo_lite.web import planner
from holo_lite.web.planning import Planning
from holo_lite.worker.order import ORDER, Order

GUARD = 600.0
SCENE = """
global = "[character1] is a red circle. This scene contains 1 shot."
frames = 49
[[shot]]
caption = "A circle."
"""


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """What a plan measures of this machine is remembered for nobody else."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def order(tmp_path):
    def of(text=SCENE, **options):
        board = tmp_path / "board.toml"
        board.write_text(text, encoding="utf-8")
        table = Order(str(tmp_path / "a.mp4"), storyboard=str(board)).table()
        return {**table, "options": {"width": 112, "height": 64, **options}}

    return of


def test_an_order_is_planned_refused_and_planned_again(order, tmp_path):
    told = queue.Queue()
    planning = Planning(told.put, tmp_path / "log")
    try:
        assert planning.ask(1, order())["state"] == "working"
        first = told.get(timeout=GUARD)
        assert (first["rev"], first["state"]) == (1, "fits")
        assert first["text"].startswith("fits on")
        assert 0 < first["memory"]["peak"] <= first["memory"]["budget"]
        assert first["lines"]
        planning.ask(2, order(width=33))
        assert told.get(timeout=GUARD) | {"lines": []} == {
            **dict.fromkeys(first),
            "rev": 2,
            "state": "unknown",
            "why": "width 33: must be a multiple of 16 up to 4096; the nearest is 32",
            "advice": [],
            "lines": [],
        }
        planning.ask(3, order(SCENE.replace('"A circle."', f'"A circle."\nimage = "{tmp_path / "none.png"}"')))
        assert "none.png" in told.get(timeout=GUARD)["why"]
        planning._process.kill()
        planning.ask(4, order())  # a new one is started
        assert told.get(timeout=GUARD)["rev"] == 4
        json.dumps(first, allow_nan=False)
        planning.ask(5, order(), emptied=True)
        assert told.get(timeout=GUARD)["memory"]["budget"] > first["memory"]["budget"], "all of the memory is free"
    finally:
        planning.close()


def test_devices_that_make_a_film_together_are_planned_together(order, tmp_path):
    told = queue.Queue()
    planning = Planning(told.put, tmp_path / "log")
    try:
        alone, both = ({**order(), "opening": each} for each in ({"device": "cpu"}, {"devices": ["cpu", "cpu"]}))
        planning.ask(1, alone)
        first = told.get(timeout=GUARD)
        planning.ask(2, both)
        found = told.get(timeout=GUARD)
        assert (found["rev"], found["state"]) == (2, "fits")
        assert "times as fast as" in found["text"]
        assert any("negative prompt" in line for line in found["lines"]), "one device for each prompt"
        assert 0 < found["memory"]["peak"] <= first["memory"]["peak"]
    finally:
        planning.close()


def test_a_process_that_dies_over_a_question_has_failed_at_it(order, monkeypatch):
    monkeypatch.setattr("holo_lite.web.planning.MODULE", "holo_lite.no_such_module")
    told = queue.Queue()
    planning = Planning(told.put)
    planning.ask(1, order())
    record = told.get(timeout=GUARD)
    assert (record["rev"], record["state"]) == (1, "unknown")
    assert record["why"]
    planning.close()


def test_of_several_questions_the_newest_is_answered():
    waiting = queue.Queue()
    for ask in range(5):
        waiting.put({"ask": ask})
    assert planner._last(waiting) == {"ask": 4}


def test_nobody_asks_and_it_is_gone(monkeypatch):
    monkeypatch.setattr(planner, "IDLE", 0.01)
    with pytest.raises(queue.Empty):
        planner._last(queue.Queue())
    waiting = queue.Queue()
    waiting.put(None)
    assert planner._last(waiting) is None


def test_the_machine_is_told_by_a_process_that_ends():
    words = [sys.executable, "-P", "-m", "holo_lite.web.planner", "--machine", "0"]
    done = subprocess.run(words, capture_output=True, timeout=GUARD, check=True)
    found = json.loads(done.stdout)["found"]
    assert found["ram"] >= found["ram_free"] > 0


def test_an_order_is_what_the_process_that_renders_takes(order):
    assert ORDER.of_table(order()).options.width == 112


def test_an_emptied_machine_has_all_of_its_memory_free_and_is_asked_once(monkeypatch):
    asked, hour = [], 3600.0
    clock = iter(float(hour * number) for number in range(100))

    def machine(number):
        asked.append(number)
        return Machine("a card", card=24, free=1, ram=64, ram_free=2)

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(planner, "_asked_apart", machine)
    surroundings = planner.Surroundings(_clock=lambda: next(clock))
    for _ in range(2):
        found = surroundings.machine(emptied=True)
        assert (found.card, found.free, found.ram, found.ram_free) == (24, 24, 64, 64)
    assert len(asked) == 1
    assert surroundings.machine().free == 1
    assert surroundings.machine("cuda:1").card == 24
    assert asked == [0, 0, 1], "what is free now is asked again, and each card for itself"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert surroundings.machine() is None
    here = surroundings.machine(emptied=True)
    assert here.ram_free == here.ram > 0
