"""Prompt Relay against its formula, written out for every pair of a video token and a row of text."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.compute import PLAIN
from holo_lite.model.equations import relay_penalty
from holo_lite.model.layer_weights import AttentionLayer
from holo_lite.model.layers import TextRows, cross_attention_
from holo_lite.model.relay import EDGE, SPREAD, relay_rows
from holo_lite.story.shots import ShotLayout

DIM, HEADS, ROWS = 12, 2, 24


def penalty(frame, first, end):
    """What a caption of a shot of latent frames first … end - 1 loses in a frame, as the paper has it."""
    middle, half = (first + end - 1) / 2, (end - first) / 2
    beyond = max(0.0, abs(frame - middle) - max(0.0, half - EDGE))
    return beyond**2 / (2 * SPREAD**2)


def dense(x, rows, layer, norm, layout, captions):
    """Cross-attention with the whole matrix of penalties in memory, a head at a time."""
    h = norm(x)
    q, k, v = layer.q(h), layer.k(rows), layer.v(rows)
    q, k = (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + layer.eps) for y in (q, k))
    q, k = q * layer.norm_q.weight, k * layer.norm_k.weight
    matrix = torch.zeros(len(x), len(rows))
    for token in range(len(x)):
        frame = token // layout.frame_tokens
        for shot, caption in enumerate(captions):
            span = layout.frame_span(shot)
            for row in caption:
                matrix[token, row] = penalty(frame, span.start, span.stop)
    found, width = [], DIM // HEADS
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        logits = q[:, part] @ k[:, part].T / math.sqrt(width) - matrix
        found.append(logits.softmax(-1) @ v[:, part])
    return x + layer.o(torch.cat(found, -1))


@pytest.fixture(scope="module")
def layer():
    torch.manual_seed(0)
    found = AttentionLayer(DIM, HEADS, 1e-6)
    for weight in found.parameters():
        nn.init.normal_(weight, std=0.5)
    return found.requires_grad_(False)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    rows=st.integers(1, 2),
    columns=st.integers(1, 3),
    chunk=st.integers(1, 40),
    words=st.lists(st.integers(1, 4), min_size=5, max_size=5),
)
def test_what_is_heard_is_what_the_formula_says(layer, lengths, rows, columns, chunk, words):
    starts = tuple(sum(lengths[:shot]) for shot in range(len(lengths)))
    layout = ShotLayout(starts, sum(lengths), rows, columns)
    edges = [2 + sum(words[:shot]) for shot in range(len(lengths) + 1)]
    captions = [range(a, b) for a, b in itertools.pairwise(edges)]
    x, text, norm = torch.randn(layout.tokens, DIM), torch.randn(ROWS, DIM), nn.LayerNorm(DIM)
    expected = dense(x, text, layer, norm, layout, captions)
    clip = Clip(layout, "wan", Chunks(chunk, chunk))
    relayed = TextRows(text, relay=relay_rows(captions, layout, torch.zeros(ROWS, DIM)))
    found = x.clone()
    with torch.inference_mode():
        cross_attention_([found], [relayed], layer, norm, clip, PLAIN)
    assert torch.allclose(found, expected.detach(), atol=1e-5)


def test_frames_that_hear_the_same_pass_together_and_no_matrix_is_made():
    layout = ShotLayout((0, 20), 40, 4, 4)
    found = relay_rows([range(3, 6), range(6, 9)], layout, torch.zeros(ROWS, DIM))
    assert len(found.spans) <= 12
    assert sum(len(frames) for frames, _ in found.spans) == 40
    assert all(bias.shape == (ROWS,) for _, bias in found.spans)
    assert [bias[:3].abs().max() for _, bias in found.spans] == [0] * len(found.spans)  # the scene is heard by all


def test_a_caption_is_heard_in_full_in_its_middle_and_hardly_beyond_its_ends():
    layout = ShotLayout((0, 12), 24, 1, 1)
    spans = relay_rows([range(1), range(1, 2)], layout, torch.zeros(ROWS, DIM)).spans
    by_frame = torch.stack([bias for frames, bias in spans for _ in frames])
    assert by_frame[5, 0] == by_frame[6, 0] == 0
    assert by_frame[12, 0] < -50
    assert torch.equal(by_frame[:, 1], by_frame.flip(0)[:, 0])


def test_the_penalty_is_that_of_the_paper():
    distance = torch.tensor([0.0, 3.0, 4.0, 4.5])
    expected = [0.0, 0.0, 0.0, 0.25 / (2 * SPREAD**2)]
    assert torch.allclose(relay_penalty(distance, torch.tensor(4.0), SPREAD), torch.tensor(expected))
