"""Ranks over the real transport: what one forward and one step give, and what travels."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings, strategies as st
from ranks_here import at_once, meetings
from small_model import clips, config_of, random_model
from test_model_against_oracle import error, fast, inputs

from holo_lite.model.clip import Clip
from holo_lite.model.compute import Compute
from holo_lite.model.parts import Part
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.released import released_sizes
from holo_lite.plan.traffic import sent_bytes
from holo_lite.story.shots import ShotLayout


def shares(cuts, tokens, branches=(0, 1)):
    spans = list(pairwise((0, *cuts, tokens)))
    return [Part(branches, *span, number, len(spans)) for number, span in enumerate(spans)]


@st.composite
def spreads(draw, tokens):
    """A clip over two to four ranks: shots apart, branches apart, both."""
    if draw(st.booleans()):
        return [*draw(cut_up(tokens, 2, (0,))), *draw(cut_up(tokens, 2, (1,)))]
    return draw(cut_up(tokens, 4, (0, 1)))


@st.composite
def cut_up(draw, tokens, most, branches):
    ranks = draw(st.integers(1 if branches != (0, 1) else 2, min(most, tokens)))
    if ranks == 1:
        return shares((), tokens, branches)
    cuts = draw(st.sets(st.integers(1, tokens - 1), min_size=ranks - 1, max_size=ranks - 1))
    return shares(sorted(cuts), tokens, branches)


def step(meet, part, config, clip, latents, contexts):
    """Both branches' velocities of the whole clip, as one rank has them, and what it sent."""
    meeting = meet()
    model = random_model(config)
    model.compute = Compute(exchange=meeting)
    here = clip if part.share is None else replace(clip, share=part.share)
    found = fast(model, latents, [contexts[branch] for branch in part.first(2)], here, None)
    block = meeting.sent
    with torch.inference_mode():
        return meeting.velocities(found, 2, latents), block


def all_steps(parts, clip, config, latents, contexts):
    works = [
        partial(step, meet, part, config, clip, latents, contexts)
        for meet, part in zip(meetings(parts, clip), parts, strict=True)
    ]
    return at_once(works)


@settings(max_examples=12, deadline=None)
@given(clip=clips().filter(lambda clip: clip.layout.tokens > 1), data=st.data())
def test_all_ranks_have_the_velocities_of_one_rank(clip, data):
    parts = data.draw(spreads(clip.layout.tokens))
    last = clip.layout.latent_frames - 1
    clip = replace(clip, frozen=frozenset(data.draw(st.sets(st.integers(0, last), max_size=last))))
    latents, context = inputs(clip)
    contexts = [context, 2 * context]
    expected = fast(random_model(config_of()), latents, contexts, clip, None)
    found = all_steps(parts, clip, config_of(), latents, contexts)
    for velocities, _ in found:
        for branch in range(2):
            assert torch.equal(velocities[branch], found[0][0][branch])
            assert error(velocities[branch], expected[branch]) < 1e-5


def test_branches_apart_are_sequential_guidance_to_the_bit():
    clip = Clip(ShotLayout((0, 2, 3), 6, 2, 3))
    latents, context = inputs(clip)
    contexts = [context, 2 * context]
    model = random_model(config_of())
    expected = [fast(model, latents, [each], clip, None)[0] for each in contexts]
    parts = [*shares((), 36, (0,)), *shares((), 36, (1,))]
    for velocities, sent in all_steps(parts, clip, config_of(), latents, contexts):
        assert all(torch.equal(a, b) for a, b in zip(velocities, expected, strict=True))
        assert sent == 0


@pytest.mark.parametrize("attention", ["sparse", "full"])
@pytest.mark.parametrize("cuts", [(12,), (20,), (7, 9), (12, 30)])
def test_a_block_sends_what_the_plan_says(cuts, attention):
    """Counted by those who send, in fp32, for shots that stay whole and shots divided among two and three."""
    clip, config = Clip(ShotLayout((0, 2, 5), 6, 2, 3), attention), config_of(layers=3)
    latents, context = inputs(clip)
    parts = shares(cuts, 36)
    found = all_steps(parts, clip, config, latents, [context, 2 * context])
    sizes = replace(released_sizes("nf4"), config=config, bytes_per_number=4)
    request = ClipRequest(clip.layout, attention)
    assert sum(sent for _, sent in found) == config.num_layers * sent_bytes(sizes, request, parts)
