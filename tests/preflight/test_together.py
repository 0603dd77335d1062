"""What `plan` says of several cards together: who computes what, what travels, what is gained."""

import json

import pytest

from holo_lite.errors import FitError
from holo_lite.eventjson.plan_json import plan_json
from holo_lite.opening.options import ModelOptions
from holo_lite.plan.machine import Machine
from holo_lite.plan.profile import GIB
from holo_lite.preflight.target import ForecastPlace
from holo_lite.preflight.together import forecast_together
from holo_lite.settings import Options
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.tiny.model import tiny_model
from holo_lite.views.together import together_lines

BOARD = Storyboard("[character1] waits. This scene contains 3 shots.", tuple(Shot(f"Shot {n}") for n in range(3)))
TWO = ("RTX 3090", "RTX 3090")


def lines(found, width=100):
    return "\n".join(together_lines(found, width))


def test_two_equal_cards_take_a_prompt_each():
    found = forecast_together(BOARD, Options(frames=241), gpus=TWO)
    said = lines(found)
    assert said.startswith("together: fits; guidance branches apart;")
    assert "about 2.0 times as fast as RTX 3090 alone" in said
    assert "RTX 3090  the prompt" in said
    assert "RTX 3090  the negative prompt" in said
    assert said.endswith("between devices: only velocities, once a step")


def test_unequal_cards_say_which_shots_each_computes_and_what_travels():
    found = forecast_together(BOARD, Options(frames=241), gpus=("RTX 3090", "RTX 3060"))
    said = lines(found)
    assert "shots apart" in said
    assert "both prompts, shots 1 to " in said
    assert f"{found.sent_a_step / 1e9:.2f} GB a step" in said
    assert "(an assumption)" in said


def test_no_line_is_wider_than_the_page():
    found = forecast_together(BOARD, Options(frames=241), gpus=("RTX 3090", "RTX 3060"))
    assert max(map(len, together_lines(found, 80))) <= 80


def test_what_fits_nowhere_is_said_with_the_reason():
    found = forecast_together(BOARD, Options(frames=14401), gpus=("RTX 3060 8 GB",) * 2)
    assert isinstance(found, FitError)
    assert "its part of the clip needs" in " ".join(lines(found).split())
    told = plan_json((), found)
    assert told["fits"] is False
    assert told["together"]["fits"] is False


def test_json_has_what_the_lines_have():
    found = forecast_together(BOARD, Options(frames=241), gpus=TWO)
    told = json.loads(json.dumps(plan_json((), found)))["together"]
    assert told["way"] == "guidance branches apart"
    assert told["gain"] == pytest.approx(2)
    assert [rank["branches"] for rank in told["ranks"]] == [[0], [1]]
    assert all(rank["tokens"] == [0, found.request.layout.tokens] for rank in told["ranks"])
    assert all(rank["plan"]["high_noise"]["peak"] > 0 for rank in told["ranks"])
    assert told["sent_a_step"] == 0


def test_one_card_is_nothing_together():
    assert forecast_together(BOARD, gpus=("RTX 3090",)) is None
    assert forecast_together(BOARD) is None


def test_processors_share_this_machines_memory():
    """Two ranks on one machine: each plans with half of what is free."""
    where = ForecastPlace(machine=Machine(ram=64 * GIB, ram_free=40 * GIB))
    found = forecast_together(BOARD, model=tiny_model(), how=ModelOptions(devices=("cpu", "cpu")), where=where)
    assert [station.name for station in found.stations] == ["this CPU", "this CPU"]
    assert [station.machine.ram_free for station in found.stations] == [20 * GIB] * 2
    assert all(plan.budget < 20 * GIB for plan in found.spread.plans)
