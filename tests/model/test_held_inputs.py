"""A shot's inputs that are held: the same bits as made twice, each made once, and none of another shot."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings, strategies as st
from small_model import TEXT_DIM, clips, config_of, random_model

from holo_lite.eightbit.rows import FORMATS, Rows
from holo_lite.model import equations, operations
from holo_lite.model.carrying import is_carried
from holo_lite.model.clip import Chunks, Clip, Share
from holo_lite.model.compute import Compute
from holo_lite.model.held_inputs import HeldInputs
from holo_lite.model.layers import TextRows
from holo_lite.model.operations import Ops
from holo_lite.model.relay import relay_rows
from holo_lite.story.shots import ShotLayout

BF16 = torch.bfloat16


def velocities(clip, mode, dtype, ops=None, compute=None, **text):
    """Of two branches that differ. text: what the first one sees of its prompt."""
    model, layout = random_model(config_of(), dtype=dtype), clip.layout
    model.compute = compute or Compute(linear=mode, ops=ops or Ops())
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(16, layout.latent_frames, 2 * layout.rows, 2 * layout.columns, generator=generator)
    with torch.inference_mode():
        prompts = torch.randn(2, 512, TEXT_DIM, generator=generator)
        texts = [TextRows(model.embed_text(prompts[0]), **text), TextRows(model.embed_text(prompts[1]))]
        return torch.stack(model(latents, torch.tensor(900.0), texts, clip))


def held(clip):
    return replace(clip, chunks=replace(clip.chunks, holding=True))


@settings(max_examples=30, deadline=None)
@given(clips(), st.sampled_from(["plain", "int8"]), st.sampled_from([torch.float32, BF16]))
def test_held_inputs_change_no_bit(clip, mode, dtype):
    assert torch.equal(velocities(held(clip), mode, dtype), velocities(clip, mode, dtype))


def attend_singly(q, k, v):
    """Attention of a query at a time, whose bits do not depend on the queries beside it."""
    return torch.cat([equations.attention(each, k, v) for each in q.split(1)])


def multiply_exactly(x, weight, bias, out=None):
    """Sums of fp8's products are exact in float64, in any order and beside any rows."""
    sums = x.codes.double() @ weight.codes.double().T
    found = (sums * x.scale * weight.scale.T + (0 if bias is None else bias)).to(x.dtype)
    return found if out is None else out.copy_(found)


def add_exactly_(x, rows, weight, bias, gate):
    return operations.gated_add_(x, multiply_exactly(rows, weight, bias), gate)


def add_and_norm_exactly_(x, rows, weight, bias, gate, norm, out):
    return norm.of(add_exactly_(x, rows, weight, bias, gate), out)


EXACT = Ops(multiply=multiply_exactly, multiply_add_=add_exactly_, multiply_add_norm_=add_and_norm_exactly_)
WINDOWS = [torch.arange(7), torch.arange(3, 12), torch.arange(1), torch.arange(2, 19)]


@settings(max_examples=30, deadline=None)
@given(
    clip=clips(), dtype=st.sampled_from([torch.float32, BF16]), kind=st.sampled_from(["all", "windows", "relay"])
)
def test_a_shot_that_goes_through_all_layers_at_once_has_the_bits_it_has_layer_by_layer(clip, dtype, kind):
    """Where a product's and an attention's bits do not depend on the rows beside."""
    layout, rows = clip.layout, torch.zeros(512, 32, dtype=dtype)
    captions = [range(3 * shot, 3 * shot + 3) for shot in range(layout.shots)]
    given_text = {
        "all": {},
        "windows": {"windows": tuple(WINDOWS[: layout.shots])},
        "relay": {"relay": relay_rows(captions, layout, rows)},
    }[kind]
    compute = Compute(attention=attend_singly, linear="fp8", ops=EXACT)
    found, expected = (velocities(each, "fp8", dtype, compute=compute, **given_text) for each in (held(clip), clip))
    assert torch.equal(found, expected)


def test_only_in_fp8_and_where_inputs_are_held_and_no_rank_waits_a_shot_goes_through_all_layers_at_once():
    layout = ShotLayout((0, 2, 5), 8, 2, 3)
    clip, order = Clip(layout, "sparse", Chunks(7, 7, holding=True)), []

    def norms(linear, clip):
        """How many sums are normed with them."""
        order.clear()

        def noted(x, *rest):
            order.append(len(x))
            return operations.multiply_add_norm_(x, *rest)

        compute = Compute(linear=linear, ops=Ops(multiply_add_norm_=noted), exchange=OtherRanks())
        velocities(clip, linear, torch.float32, compute=compute)
        return sum(order)

    assert norms("fp8", clip) == 2 * 2 * 2 * layout.tokens  # of two layers in each of two blocks, in two branches
    assert norms("fp8", replace(clip, chunks=Chunks(7, 7))) == norms("int8", clip) == norms("plain", clip) == 0
    assert norms("fp8", clip.shared_out(Share(range(9, 40), 1))) == 0
    assert not is_carried(clip, "fp8", 32, 40), "a width that is not multiplied in 8 bits"


class OtherRanks:
    """What other ranks compute is one half everywhere."""

    def shared(self, buffer, clip):
        here = {row + place for row, span in clip.shared_here for place in range(len(span))}
        return partial(self.fill, buffer, [row for row in range(clip.shared_tokens) if row not in here])

    def divided(self, buffer, clip, shot, first):
        own = clip.own_span(shot)
        return partial(self.fill, buffer, [first + row for row, token in enumerate(own) if token not in clip.here])

    def fill(self, buffer, rows):
        buffer.keys[rows] = 0.5
        buffer.values[rows] = 0.5


def test_some_of_a_clip_may_be_computed_elsewhere():
    layout = ShotLayout((0, 2, 5), 8, 2, 3)

    def velocity(chunks):
        model = random_model(config_of())
        model.compute = Compute(exchange=OtherRanks())
        clip = Clip(layout, "sparse", chunks, Share(range(9, 40), 1))
        latents = torch.randn(16, 8, 4, 6, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            return model(latents, torch.tensor(900.0), [TextRows(torch.ones(512, 32))], clip)[0]

    assert torch.equal(velocity(Chunks(7, 7, holding=True)), velocity(Chunks(7, 7)))


def test_a_shot_s_input_is_made_once_and_the_first_frames_twice():
    layout, made = ShotLayout((0, 2, 5), 8, 2, 3), []

    def modulate(x, *given):
        made.append(len(x))
        return operations.modulate(x, *given)

    for chunks in (Chunks(7, 10**6), Chunks(7, 10**6, holding=True)):
        made.clear()
        velocities(Clip(layout, "sparse", chunks), "plain", torch.float32, Ops(modulate=modulate))
        twice = layout.tokens if not chunks.holding else layout.shots * layout.frame_tokens
        # two layers, two branches; and the feed-forward's own
        assert sum(made) == 2 * 2 * (layout.tokens + twice + layout.tokens)


@pytest.mark.parametrize("mode", [None, *FORMATS])
def test_what_is_held_is_where_it_was_written(mode):
    form = mode and FORMATS[mode]
    like = torch.empty(3, 8, dtype=BF16)
    room = HeldInputs(9, form, like)
    assert not room.has(slice(0, 1))
    room.begin(range(20, 29))
    assert room.has(slice(20, 29))
    assert not room.has(slice(19, 21))
    assert not room.has(slice(28, 30))
    x = torch.randn(9, 8, generator=torch.Generator().manual_seed(0)).to(BF16)
    vector = torch.ones(8, dtype=BF16)
    for tokens in (slice(20, 25), slice(25, 29)):
        rows = x[tokens.start - 20 : tokens.stop - 20]
        operations.modulate(rows, vector, vector, 1e-6, form, room.place(tokens))
    expected = operations.modulate(x[3:8], vector, vector, 1e-6, form)
    found = room.input(slice(23, 28))
    for part, other in zip(parts(found), parts(expected), strict=True):
        assert torch.equal(part, other)
    assert all(part.data_ptr() % 16 == 0 for part in parts(found)[1:]), "a product's scales begin at 16 bytes"
    room.begin(range(0))
    assert not room.has(slice(20, 21))


def parts(x):
    return (x.codes, x.scale) if isinstance(x, Rows) else (x,)
