"""The working set of a forward, counted tensor by tensor, against the stated formula."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from live_bytes import LiveBytes
from small_model import TEXT_DIM, config_of, random_model

from holo_lite.config import HOLOCINE_14B
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.layers import TextRows
from holo_lite.model.memory import working_set
from holo_lite.story.shots import ShotLayout

WINDOW = 300


def measured_and_planned(config, clip, dtype, branches):
    """Bytes above weights, streams, text and input latents: counted, and by the formula."""
    model = random_model(config, dtype=dtype)
    layout = clip.layout
    latents = torch.randn(16, layout.latent_frames, 2 * layout.rows, 2 * layout.columns)
    with torch.inference_mode():
        rows = model.embed_text(torch.randn(512, TEXT_DIM))
        windows = tuple(torch.arange(WINDOW) for _ in range(layout.shots))
        texts = [TextRows(rows, windows) for _ in range(branches)]
        with LiveBytes(computing=False) as live:
            model(latents, torch.tensor(900.0), texts, clip)
    plan = working_set(config, clip, bytes_per_number=dtype.itemsize, branches=branches, window=WINDOW)
    return live.peak - plan.streams, plan.peak - plan.streams - plan.text


SHOTS = {
    "many short shots": (tuple(range(0, 40, 4)), 40),
    "one long shot": ((0,), 40),
    "a long and a short shot": ((0, 34), 40),
    "five shots": ((0, 8, 16, 24, 32), 40),
    "one-frame shots": (tuple(range(12)), 12),
    "one short shot": ((0,), 9),
}


@pytest.mark.parametrize("branches", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", ["sparse", "full"])
@pytest.mark.parametrize("shots", SHOTS)
def test_no_layout_exceeds_the_formula_or_stays_far_below_it(shots, attention, dtype, branches):
    starts, frames = SHOTS[shots]
    clip = Clip(ShotLayout(starts, frames, 6, 10), attention, Chunks(400, 300))
    measured, planned = measured_and_planned(config_of(128, 2, 1, 700), clip, dtype, branches)
    assert 0.9 * planned <= measured <= 1.05 * planned


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shots", SHOTS)
def test_a_shot_s_inputs_that_are_held_are_counted(shots, dtype):
    starts, frames = SHOTS[shots]
    clip = Clip(ShotLayout(starts, frames, 6, 10), "sparse", Chunks(400, 300, holding=True))
    measured, planned = measured_and_planned(config_of(128, 2, 1, 256), clip, dtype, 2)
    assert 0.9 * planned <= measured <= 1.05 * planned
    if len(starts) < 3:  # else cross-attention takes as much as self-attention
        unheld = replace(clip, chunks=Chunks(400, 300))
        without, _ = measured_and_planned(config_of(128, 2, 1, 256), unheld, dtype, 2)
        assert measured - without == clip.longest * 256 * dtype.itemsize


@settings(max_examples=20, deadline=None)
@given(attention=st.integers(64, 900), feed_forward=st.integers(64, 900))
def test_chunk_sizes_bound_what_they_say_they_bound(attention, feed_forward):
    clip = Clip(ShotLayout((0, 9), 20, 6, 8), "sparse", Chunks(attention, feed_forward))
    measured, planned = measured_and_planned(config_of(64, 2, 1, 640), clip, torch.float32, 1)
    assert 0.85 * planned <= measured <= 1.15 * planned


def test_one_long_shot_costs_no_more_queries_than_five_short_ones():
    """241 frames at 480x832, 14B: the difference between the layouts is their K/V rows and nothing else."""
    five, one = (ShotLayout(starts, 61, 30, 52) for starts in ((0, 13, 25, 37, 49), (0,)))
    sizes = [working_set(HOLOCINE_14B, Clip(layout), bytes_per_number=2) for layout in (five, one)]
    row = 2 * 5120 * 2
    assert sizes[1].self_attention - sizes[0].self_attention == row * ((61 + 1) - (13 + 5)) * 1560
    assert all(size.cross_attention <= size.self_attention for size in sizes)
    assert sizes[1].feed_forward == sizes[0].feed_forward


def test_number_of_shots_costs_its_representatives_only():
    def planned(shots):
        return working_set(HOLOCINE_14B, Clip(ShotLayout(shots, 60, 30, 52)), bytes_per_number=2)

    few, many = planned((0, 20, 40)), planned((0, 20, 40, 45, 50, 55))
    assert many.layers - few.layers == 2 * 3 * 1560 * 5120 * 2
    assert many.streams == few.streams
