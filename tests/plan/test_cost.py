"""Operations against section 8 and against counted ones; rates and what they are based on."""

import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from small_model import TEXT_DIM, config_of, layouts, random_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from holo_lite.config import HOLOCINE_14B, DiTConfig
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.layers import TextRows
from holo_lite.plan import rate as rate_module
from holo_lite.plan.card_table import CARDS
from holo_lite.plan.cards import find_card
from holo_lite.plan.cost import (
    Operations,
    Rate,
    attended_pairs,
    first_step_rate,
    forward_operations,
    needed_rate,
    phase_costs,
    vendor_rate,
)
from holo_lite.plan.fit import make_plan
from holo_lite.plan.known_card import derived
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.profile import find_profile
from holo_lite.plan.rate import device_rate
from holo_lite.plan.released import released_sizes
from holo_lite.sampling.schedule import Schedule
from holo_lite.story.shots import ShotLayout, even_cuts

SHORT = json.dumps({f"a chip, PyTorch {torch.__version__}": [1.0]})
LAYOUT = ShotLayout.from_frames(241, even_cuts(241, 5), 480, 832)
CPU = torch.device("cpu")


def test_the_operations_of_section_8():
    linear = forward_operations(HOLOCINE_14B, LAYOUT, "sparse").linear
    assert round(linear / 1e15, 1) == 2.3
    pairs = {kind: 40 * 4 * 5120 * attended_pairs(LAYOUT, kind) for kind in ("full", "sparse")}
    assert round(pairs["full"] / 1e15, 1) == 7.4
    assert round(pairs["sparse"] / 1e15, 1) == 2.1


def counted(config, clip):
    model = random_model(config)
    layout = clip.layout
    latents = torch.randn(16, layout.latent_frames, 2 * layout.rows, 2 * layout.columns)
    with torch.inference_mode():
        rows = model.embed_text(torch.randn(512, TEXT_DIM))
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(latents, torch.tensor(900.0), [TextRows(rows)], clip)
    return counter.get_total_flops()


@settings(max_examples=10, deadline=None)
@given(layouts())
@pytest.mark.parametrize("attention", ["sparse", "full"])
def test_a_forward_is_counted_to_the_last_operation(attention, layout):
    config = config_of()
    assert forward_operations(config, layout, attention).total == counted(
        config, Clip(layout, attention, Chunks(64, 64))
    )


def costs(steps=50, **said):
    sizes, request = released_sizes("nf4"), ClipRequest(LAYOUT, **said)
    plan = make_plan(find_profile("8gb"), sizes, request)
    return plan, phase_costs(sizes, request, plan, Schedule.of(steps))


def test_a_run_is_its_steps():
    _, found = costs()
    assert [found[name].steps for name in ("text", "high_noise", "low_noise", "decode")] == [2, 21, 29, 1]
    total = sum(cost.steps * cost.step.total for cost in found.values())
    assert total == pytest.approx(440e15, rel=0.02)
    _, alone = costs(guided=False)
    assert alone["text"].steps == 1
    assert 2 * alone["high_noise"].step.total == found["high_noise"].step.total


def test_one_step_is_the_high_noise_experts():
    _, found = costs(steps=1)
    assert (found["high_noise"].steps, found["low_noise"].steps) == (1, 0)
    assert found["low_noise"].seconds(Rate(1, 1, "")) == 0


def test_tiles_cost_more():
    sizes, request = released_sizes("nf4"), ClipRequest(LAYOUT)
    profile = find_profile("8gb")
    whole, tiled = (
        phase_costs(sizes, request, make_plan(each, sizes, request), Schedule.of(50))["decode"].step.total
        for each in (profile, dataclasses.replace(profile, tiling="always"))
    )
    assert tiled == pytest.approx(2.25 * whole, rel=0.01)


def test_time_is_operations_over_their_rates():
    assert Rate(10, 5, "").seconds(Operations(20, 15)) == 5
    assert Operations(1, 2).times(3) == Operations(3, 6)


def test_products_in_8_bits_are_counted_apart_and_have_their_own_rate():
    plain, coded = (forward_operations(HOLOCINE_14B, LAYOUT, "sparse", linear=each) for each in ("plain", "int8"))
    assert (coded.total, coded.attention) == (plain.total, plain.attention)
    ends = 2 * LAYOUT.tokens * 5120 * 4 * 32 + 2 * 5120 * (256 + 7 * 5120)  # stay as they are
    assert coded.linear == ends
    assert Rate(10, 5, "", 40).seconds(Operations(20, 15, 80)) == 7
    assert Rate(10, 5, "").seconds(Operations(20, 15, 80)) == 13, "of no known rate: no faster"
    narrow = DiTConfig(96, 2, 40, 1, text_dim=16, freq_dim=16)  # 40 is no multiple of 16
    found, int8 = (forward_operations(narrow, LAYOUT, "sparse", linear=each) for each in ("fp8", "int8"))
    assert int8.eight_bit - found.eight_bit == 4 * LAYOUT.tokens * 96 * 40


def test_a_vendors_rate_says_that_it_is_an_estimate():
    rate = vendor_rate(find_card("4090"))
    assert rate.linear == rate.attention == 82.6e12
    assert rate.basis == (
        "by NVIDIA's figure, not measured: 50% (assumed) of the 165.2 TFLOPS that NVIDIA states for the RTX 4090"
    )
    assert not rate.measured
    coded = vendor_rate(find_card("4090"), "int8")
    assert (coded.linear, coded.eight_bit) == (82.6e12, None)
    assert coded.basis == f"{rate.basis}, products in int8 counted as no faster than others"
    assert vendor_rate(find_card("RTX 2060")) is None


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_card_has_a_rate_or_the_reason_why_not(card):
    rate = vendor_rate(card)
    assert (rate is None) == bool(card.no_rate)
    assert rate is None or 5e12 < rate.linear < 500e12
    assert card.no_rate or card.capability >= (8, 0)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("3060", 25.5), ("3060 Ti", 32.4), ("4080", 97.5), ("4060", 30.2), ("5060 Ti", 47.4), ("5090 laptop", 90.7)],
)
def test_rates_of_other_geforce_cards_follow_from_cores_and_clock(name, tflops):
    """Twice the fp32 rate that NVIDIA states for them: 4080 48.7, 4060 15.1, 5060 Ti 23.7."""
    assert find_card(name).tflops == tflops


def test_cores_and_clock_that_contradict_the_stated_rate_are_a_mistake_of_ours():
    with pytest.raises(AssertionError, match="cores and clock give"):
        derived("RTX 4090", 24, 16384, 2520, capability=(8, 9), pcie=4, stated=330.4)


def test_what_must_come_to_hide_behind_the_arithmetic():
    plan, found = costs()
    rate = vendor_rate(find_card("5070"))
    device, disk = needed_rate(plan, found, rate)
    step = rate.seconds(found["high_noise"].step)
    assert device == plan.high_noise.streamed / step
    assert disk == plan.high_noise.from_disk / step
    assert 0 <= disk < device < 1e9


def test_what_the_disk_must_give_to_hide_the_first_step():
    """All of an expert in one step: of the second one in half the time, if guidance has ended by then."""
    _, found = costs()
    rate, read = vendor_rate(find_card("5070")), {"high_noise": 8_000, "low_noise": 9_000}
    step = rate.seconds(found["high_noise"].step)
    assert first_step_rate(read, found, rate) == pytest.approx(9_000 / step)
    low = found["low_noise"]
    alone = {**found, "low_noise": dataclasses.replace(low, unguided=low.steps)}
    assert first_step_rate(read, alone, rate) == pytest.approx(18_000 / step)
    none = {**found, "low_noise": dataclasses.replace(low, steps=0)}
    assert first_step_rate(read, none, rate) == pytest.approx(8_000 / step), "an expert that has no step"


# --- the measured rate -----------------------------------------------------------------------------


def test_a_rate_is_measured_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(rate_module, "measure", lambda device: calls.append(device) or (3e12, 2e12))
    first, again = (device_rate(CPU, "a chip", tmp_path / "new") for _ in range(2))
    assert first == again == Rate(3e12, 2e12, "measured on a chip: 3 TFLOPS linear, 2 attention")
    assert calls == [CPU]
    device_rate(CPU, "another chip", tmp_path / "new")
    assert len(calls) == 2
    assert len(json.loads((tmp_path / "new" / "rates.json").read_text())) == 2


def test_products_in_8_bits_are_measured_when_they_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(rate_module, "measure", lambda _: (3e12, 2e12))
    asked = []
    monkeypatch.setattr(rate_module, "measure_eight_bit", lambda _, linear: asked.append(linear) or 5e12)
    plain, *coded = (device_rate(CPU, "a chip", tmp_path, linear) for linear in ("plain", "int8", "int8"))
    assert (plain.eight_bit, asked) == (None, ["int8"])
    assert coded == [Rate(3e12, 2e12, "measured on a chip: 3 TFLOPS linear, 2 attention, 5 in int8", 5e12)] * 2


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '{"a": ["x", 1]}', SHORT])
def test_a_spoilt_memory_only_means_to_measure_again(tmp_path, monkeypatch, content):
    monkeypatch.setattr(rate_module, "measure", lambda _: (3e12, 2e12))
    (tmp_path / "rates.json").write_text(content)
    assert device_rate(CPU, "a chip", tmp_path).linear == 3e12


def test_a_place_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(rate_module, "measure", lambda _: (3e12, 2e12))
    (tmp_path / "file").write_text("")
    assert device_rate(CPU, "a chip", tmp_path / "file").linear == 3e12


def test_a_real_measurement_gives_real_rates(monkeypatch):
    monkeypatch.setattr(rate_module, "SECONDS", 0.01)
    linear, attended = rate_module.measure(CPU)
    assert 1e8 < linear < 1e15
    assert 1e7 < rate_module.measure_eight_bit(CPU, "fp8") < 1e15
    assert 1e8 < attended < 1e15
