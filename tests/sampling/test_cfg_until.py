"""Guidance on a part of the schedule: what is computed there, and after it, and that everything counts it so."""

from dataclasses import replace

import pytest
import torch
from cached_runs import EXPERTS, MODELS, SCHEDULE, SWITCH, Whole, fast_run, guidance, slow_run
from hypothesis import given, settings, strategies as st
from safetensors.torch import save_file
from test_settings import decide, refused

from holo_lite.film.video import read_metadata
from holo_lite.plan.cost import Rate, needed_rate, phase_costs
from holo_lite.plan.fit import make_plan
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.profile import find_profile
from holo_lite.plan.released import released_sizes
from holo_lite.render.denoise_phase import forwards_left
from holo_lite.sampling.sampler import Guidance
from holo_lite.sampling.schedule import Schedule
from holo_lite.settings import RunSettings
from holo_lite.story.shots import ShotLayout, even_cuts
from holo_lite.streaming.experts import ExpertSetup, StreamedExperts
from holo_lite.streaming.residency import Residency

CPU, FP32 = torch.device("cpu"), torch.float32
LAYOUT = ShotLayout.from_frames(241, even_cuts(241, 5), 480, 832)
shares = st.floats(0, 1, exclude_min=True)


@given(st.integers(1, 1000), shares)
def test_a_part_of_the_schedule_is_the_nearest_number_of_steps_and_never_none(count, share):
    schedule = Schedule.of(count)
    steps = schedule.part(share)
    assert 1 <= steps <= count
    assert abs(steps - share * count) <= 0.5 or steps == 1
    assert schedule.part(1.0) == count


@pytest.mark.parametrize("until", [0.1, 0.3, SWITCH / 10, 0.8, 1.0])
def test_a_run_is_guided_on_the_first_part_and_follows_the_prompt_alone_after_it(until):
    experts = Whole()
    found = fast_run(experts, guidance(until))
    for progress, (latents, _) in zip(found, slow_run(until=until), strict=True):
        torch.testing.assert_close(progress.latents, latents, rtol=1e-4, atol=1e-4)
    guided = round(10 * until)
    assert experts.branches == [2] * guided + [1] * (10 - guided)


def test_an_expert_that_is_never_guided_embeds_no_negative_prompt():
    experts = Whole()
    fast_run(experts, guidance(0.3))
    assert experts.embedded == ["high_noise", "high_noise", "low_noise"]


def test_without_guidance_its_end_changes_nothing():
    alone, until = (Guidance(guidance().positive, guidance().negative, 1.0, share) for share in (1.0, 0.5))
    one, other = fast_run(Whole(), alone), fast_run(Whole(), until)
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(one, other, strict=True))


@settings(max_examples=40)
@given(st.integers(1, 60), shares, st.integers(0, 60), st.booleans())
def test_forwards_are_counted_step_by_step(count, share, first, joint):
    schedule = Schedule.of(count)
    expected = {}
    for step in list(schedule)[first:]:
        both = step.index < max(1, round(share * count))
        expected[step.expert] = expected.get(step.expert, 0) + (2 if both and not joint else 1)
    assert forwards_left(schedule, first, guidance(share), joint=joint) == expected


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("until", [0.3, 0.8])
def test_it_streams_to_the_same_bits_and_asks_for_no_forward_too_few_or_too_many(tmp_path, until, joint):
    (tmp_path / "dit_config.json").write_text('{"num_heads": 2}')
    paths = {expert: tmp_path / f"{expert}.safetensors" for expert in EXPERTS}
    for expert, path in paths.items():
        save_file(MODELS[expert].state_dict(), path)
    counts = forwards_left(SCHEDULE, 0, guidance(until), joint=joint)
    with StreamedExperts(ExpertSetup(paths, FP32, CPU), counts, Residency()) as experts:
        found = fast_run(experts, guidance(until), joint=joint)
        assert {experts._way._read[expert] for expert in EXPERTS} == {
            count * len(MODELS["high_noise"].blocks) for count in counts.values()
        }
    expected = fast_run(Whole(), guidance(until))
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(found, expected, strict=True))


# --- time ------------------------------------------------------------------------------------------


def costs(count, until, profile="8gb", **said):
    sizes, request = released_sizes("nf4"), ClipRequest(LAYOUT, **said)
    plan = make_plan(find_profile(profile), sizes, request)
    return plan, phase_costs(sizes, request, plan, Schedule.of(count), until)


RATE = Rate(1e12, 5e11, "")


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), shares)
def test_time_is_that_of_every_step_by_itself(count, share):
    schedule, (_, found) = Schedule.of(count), costs(count, share)
    guided = RATE.seconds(found["high_noise"].step)
    for name in EXPERTS:
        steps = [step for step in schedule if step.expert == name]
        expected = sum(guided if step.index < schedule.part(share) else guided / 2 for step in steps)
        assert found[name].seconds(RATE) == pytest.approx(expected)


def test_a_run_without_guidance_has_nothing_to_leave_out():
    _, whole = costs(50, 1.0, guided=False)
    _, part = costs(50, 0.2, guided=False)
    assert whole == part


def test_a_step_of_one_branch_has_half_the_time_to_hide_the_same_bytes():
    """Blocks come once for both branches where these go together; apart, one of two visits falls away."""
    plan, found = costs(50, 0.5)
    assert plan.joint
    whole, guided = costs(50, 1.0)
    assert needed_rate(plan, found, RATE) == pytest.approx([2 * rate for rate in needed_rate(whole, guided, RATE)])
    apart = replace(plan, joint=False)
    assert needed_rate(apart, found, RATE) == needed_rate(apart, guided, RATE)


# --- for people ------------------------------------------------------------------------------------


def test_a_plan_says_how_long_it_is_guided_and_takes_less_time(run):
    board = "[global caption] A house by the sea. [per shot caption] wide shot [shot cut] close shot"
    whole, part = (
        run("plan", board, "--gpu", "4090", "--steps", 50, *words) for words in ((), ("--cfg-until", 0.5))
    )
    assert (whole.code, part.code) == (0, 0)
    assert "50 steps, guidance in the first 25" in " ".join(part.out.split())
    assert "guidance in the first" not in whole.out
    low = [next(line for line in each.out.splitlines() if line.startswith("low-noise")) for each in (whole, part)]
    assert [line.split()[1] for line in low] == ["29", "29"]
    seconds = [sum(int(n) * 60**i for i, n in enumerate(reversed(line.split()[4].split(":")))) for line in low]
    assert seconds[1] == pytest.approx(seconds[0] * (4 + 25 / 2) / 29, abs=1), "4 guided steps, and 25 halves"
    peaks = [line.split()[2:4] for line in low]
    assert peaks[0] == peaks[1], "memory is that of the guided steps"


def test_a_video_records_it_and_says_the_command(run, tmp_path):
    words = ("--height", 16, "--width", 32, "--frames", 5, "--steps", 4, "--cfg-until", 0.5, "--out", "a.mp4")
    outcome = run("generate", "a road", *words)
    assert outcome.code == 0
    assert "guidance: in the first 2 of 4 steps" in outcome.err
    found = RunSettings.from_json(read_metadata(tmp_path / "a.mp4"))
    assert (found.cfg_until, found.guided_steps) == (0.5, 2)
    assert "--cfg-until 0.5" in run("inspect", "a.mp4").out


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan"), float("inf")])
def test_a_share_out_of_range_is_told_on_one_line(run, share):
    assert f"cfg-until {share}: give a number above 0, and at most 1" in refused(cfg_until=share)
    outcome = run("plan", "a road", f"--cfg-until={share}")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)


def test_all_of_the_schedule_is_the_default():
    settings = decide()
    assert (settings.cfg_until, settings.guided_steps) == (1.0, settings.steps)
    assert decide(cfg=1.0, cfg_until=0.5).guided_steps == 0
