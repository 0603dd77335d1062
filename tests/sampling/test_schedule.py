"""Noise levels and the switch between the experts, bit for bit."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from holo_lite.errors import SettingsError
from holo_lite.sampling.bounds import MOST_STEPS
from holo_lite.sampling.schedule import Schedule, shifted_sigmas

REFERENCE = json.loads((Path(__file__).parents[1] / "parity_data" / "schedule.json").read_text())
EVERY_COUNT = range(1, MOST_STEPS + 1)


def test_sigmas_equal_the_torch_formula_bit_for_bit_at_every_count():
    for count in EVERY_COUNT:
        line = torch.linspace(1, 0, count + 1, dtype=torch.float32)[:-1]
        expected = 5 * line / (1 + 4 * line)
        assert shifted_sigmas(count).tolist() == expected.tolist(), count
        steps = Schedule.of(count).steps
        assert [step.sigma for step in steps] == expected.tolist(), count
        assert [step.timestep for step in steps] == (1000 * expected).tolist(), count


@pytest.mark.parametrize("count", REFERENCE)
def test_rows_of_the_reference(count):
    schedule, row = Schedule.of(int(count)), REFERENCE[count]
    assert [step.sigma for step in schedule] == row["sigmas"]
    assert [step.timestep for step in schedule] == row["timesteps"]
    assert schedule.first_low_noise_step == row["first_low_noise_step"]


def test_noise_falls_with_every_step_and_ends_at_zero():
    for count in EVERY_COUNT:
        steps = Schedule.of(count).steps
        assert steps[0].sigma == 1
        assert steps[-1].sigma_next == 0
        assert all(step.sigma > step.sigma_next for step in steps)
        assert all(a.sigma_next == b.sigma for a, b in pairwise(steps))
        assert [step.index for step in steps] == list(range(count))


def test_the_experts_change_once_and_by_the_unrounded_timestep():
    """A timestep of 874.6 is 876 in bf16: rounded, it would go to the wrong expert."""
    rounding_matters = 0
    for count in EVERY_COUNT:
        schedule = Schedule.of(count)
        experts = [step.expert for step in schedule]
        high = schedule.first_low_noise_step
        assert experts == ["high_noise"] * high + ["low_noise"] * (count - high)
        assert all((step.timestep >= 875) == (step.expert == "high_noise") for step in schedule)
        rounded = torch.tensor([step.timestep for step in schedule]).bfloat16()
        rounding_matters += int((rounded >= 875).sum()) != high
    assert rounding_matters > 10


def test_fifty_steps_are_21_high_and_29_low():
    assert Schedule.of(50).first_low_noise_step == 21
    assert len(Schedule.of(50)) == 50


def test_one_step_is_all_high_noise():
    (step,) = Schedule.of(1)
    assert (step.sigma, step.sigma_next, step.timestep, step.expert) == (1, 0, 1000, "high_noise")
    assert Schedule.of(1).first_low_noise_step == 1


@pytest.mark.parametrize("count", [0, -1, 1001, 10**9])
def test_counts_outside_1_to_1000_are_refused_with_the_bounds(count):
    with pytest.raises(SettingsError, match=rf"steps {count}: give a number from 1 to 1000"):
        Schedule.of(count)
