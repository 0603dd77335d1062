"""The parts of the transformer, each against the obvious formula."""

import math
from dataclasses import replace

import oracle
import pytest
import torch
import torch.nn.functional as F
from accelerate.hooks import ModelHook, add_hook_to_module
from hypothesis import given, settings, strategies as st
from small_model import TEXT_DIM, clips, config_of, layouts, random_model

from holo_lite.config import HOLOCINE_14B
from holo_lite.kernels.sdpa import _of_heads
from holo_lite.model import equations
from holo_lite.model.clip import Chunks, Clip, even_portions, portions
from holo_lite.model.compute import Compute
from holo_lite.model.dit import WanDiT
from holo_lite.model.key_values import KeyValues
from holo_lite.model.layers import TextRows
from holo_lite.model.patches import read_patches, write_patches
from holo_lite.model.positions import Positions
from holo_lite.story.shots import ShotLayout, even_cuts

CPU = torch.device("cpu")
BF16 = 2.0**-8  # half a unit in the last place of bf16, relative
TIMESTEP = torch.tensor(903.5)  # exact in fp16
LAYOUT = ShotLayout((0, 2, 3), 6, 3, 4)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def error(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


# Clip: who attends to whom


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 400))
def test_portions_cover_a_span_in_order_and_stay_small(start, length, size):
    slices = list(portions(range(start, start + length), size))
    assert [i for part in slices for i in range(part.start, part.stop)] == list(range(start, start + length))
    assert all(0 < part.stop - part.start <= size for part in slices)


@given(clips())
def test_every_token_asks_exactly_once(clip):
    asked = [token for _, span in clip.query_spans for token in span]
    assert asked == list(range(clip.layout.tokens))
    assert [shot for shot, _ in clip.query_spans] == list(range(clip.layout.shots))


@given(clips())
def test_a_shot_sees_the_rows_of_the_specification(clip):
    """Sparse: every shot's first frame, and its own tokens, its own first frame so twice. Full: all, once."""
    layout, frame = clip.layout, clip.layout.frame_tokens
    shared = [token for span in clip.shared_spans for token in span]
    firsts = [start * frame + i for start in layout.starts for i in range(frame)]
    for shot, span in clip.query_spans:
        again = [shared[row] for row in clip.repeated_rows(shot)]
        seen = [*shared, *again, *clip.own_span(shot)]
        expected = range(layout.tokens) if clip.attention == "full" else [*firsts, *span]
        assert sorted(seen) == sorted(expected)
        assert len(seen) <= clip.key_rows
    longest = max(len(span) for _, span in clip.query_spans)
    assert clip.key_rows == (layout.tokens if clip.attention == "full" else len(shared) + longest)
    assert clip.shared_tokens == len(shared)


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (-1, 5)])
def test_a_chunk_of_no_tokens_would_never_end(sizes):
    with pytest.raises(AssertionError):
        Chunks(*sizes)


# KeyValues: the buffer


def fill(buffer, keys, values):
    for place, rows in zip(buffer.extend(len(keys)), (keys, values), strict=True):
        place.copy_(rows)


def test_buffer_keeps_the_shared_rows_and_forgets_a_shot():
    k, v = normal(9, 2, 3), normal(9, 2, 3, seed=1)
    buffer = KeyValues(8, 2, 3, like=k)
    fill(buffer, k[:2], v[:2])
    fill(buffer, k[2:4], v[2:4])
    for own in (slice(4, 6), slice(6, 9)):
        buffer.go_to(4)
        buffer.repeat(range(1, 2))
        fill(buffer, k[own], v[own])
        keys, values = buffer.seen
        assert torch.equal(keys, torch.cat([k[:4], k[1:2], k[own]]))
        assert torch.equal(values, torch.cat([v[:4], v[1:2], v[own]]))
    assert buffer.seen[0].untyped_storage().data_ptr() == buffer.keys.untyped_storage().data_ptr()


def test_buffer_that_is_too_small_is_an_error_not_a_cut():
    rows = normal(3, 1, 2)
    with pytest.raises(AssertionError, match="no room for 3 rows, but for 2"):
        fill(KeyValues(2, 1, 2, like=rows), rows, rows)


# Positions and patches


@given(st.integers(0, 300), st.integers(0, 2000), st.integers(1, 300))
def test_even_portions_cover_a_span_and_are_alike(start, length, most):
    sizes = [part.stop - part.start for part in even_portions(range(start, start + length), most)]
    cuts = [start, *(part.stop for part in even_portions(range(start, start + length), most))]
    assert cuts == [start + sum(sizes[:count]) for count in range(len(sizes) + 1)]
    assert sum(sizes) == length
    assert max(sizes, default=0) <= most
    assert len(sizes) < max(2, 2 * -(-length // most))
    assert len(set(sizes)) <= 2
    assert [size for size in sizes[:-1] if size != max(sizes)] == []


def attended_shapes(frames, shots, chunks):
    """How many queries meet how many keys in a block at full size: each pair of numbers once."""
    seen = set()

    def attention(q, k, _):
        seen.add((len(q), len(k)))
        return torch.empty_like(q)

    with torch.device("meta"), torch.inference_mode():
        model = WanDiT(replace(HOLOCINE_14B, num_layers=1), Compute(attention)).bfloat16()
        layout = ShotLayout.from_frames(frames, even_cuts(frames, shots), 480, 832)
        rows = model.embed_text(torch.empty(512, HOLOCINE_14B.text_dim, dtype=torch.bfloat16))
        windows = tuple(
            torch.empty(40 + 5 * shot, dtype=torch.long) for shot in range(shots)
        )  # no two captions alike
        latents = torch.empty(16, layout.latent_frames, 60, 104)
        texts = [TextRows(rows, windows), TextRows(rows)]
        model(latents, torch.empty(()), texts, Clip(layout, chunks=chunks))
    return seen


@pytest.mark.parametrize(("frames", "shots", "tokens", "most"), [(241, 5, 8192, 10), (961, 16, 8448, 21)])
def test_attention_meets_few_shapes(frames, shots, tokens, most):
    """cuDNN prepares each for some 0.1 s or more. Self-attention has two for each length of shot, a prompt one."""
    assert len(attended_shapes(frames, shots, Chunks(tokens, tokens))) == most


def test_attention_is_asked_in_the_layout_of_a_batch_of_tokens(monkeypatch):
    """By its strides: on them depends for which lengths cuDNN's preparations serve again."""
    asked = []

    def spy(*tensors, **_):
        asked.extend(tensor.stride() for tensor in tensors[:3])
        return (tensors[0],)

    q, k = normal(7, 4, 8), normal(9, 4, 8)
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *tensors: spy(*tensors)[0])
    assert torch.equal(equations.attention(q, k, k), q)
    assert torch.equal(_of_heads(spy)(q, k, k), q)
    assert asked == 2 * [(7 * 32, 8, 32, 1), (9 * 32, 8, 32, 1), (9 * 32, 8, 32, 1)]


@given(layouts(), st.data())
def test_tokens_are_counted_by_frame_then_row_then_column(layout, data):
    frames, rows, columns = (range(n) for n in (layout.latent_frames, layout.rows, layout.columns))
    order = [(f, r, c) for f in frames for r in rows for c in columns]
    start = data.draw(st.integers(0, layout.tokens - 1))
    tokens = slice(start, data.draw(st.integers(start + 1, layout.tokens)))
    grid = Positions.of(layout, 16, CPU).grid(tokens)
    assert torch.stack(grid, dim=1).tolist() == [list(place) for place in order[tokens]]


@settings(max_examples=25)
@given(layouts(most_frames=12), st.sampled_from([2, 4, 8, 22, 32, 128]))
def test_rotations_equal_the_complex128_reference(layout, head_dim):
    angles = oracle.rotation_angles((layout.latent_frames, layout.rows, layout.columns), head_dim)
    cos, sin = Positions.of(layout, head_dim, CPU).rotations(slice(0, layout.tokens))
    assert torch.equal(cos, angles.cos().float().unsqueeze(1))
    assert torch.equal(sin, angles.sin().float().unsqueeze(1))
    x = normal(layout.tokens, 3, head_dim)
    expected = oracle.rotate(x.double().transpose(0, 1), angles).transpose(0, 1)
    assert error(equations.rotate_(x.clone(), cos, sin), expected) < 2e-7


def test_angles_of_the_last_frame_of_a_long_clip_are_exact():
    """Angles worked out in fp32 would be off by 1e-4 at frame 1000; positions do not restart with a shot."""
    layout = ShotLayout((0, 990), 1001, 1, 1)
    cos, _ = Positions.of(layout, 128, CPU).rotations(slice(1000, 1001))
    exact = [math.cos(1000 * 10000.0 ** (-2 * i / 44)) for i in range(22)]
    assert torch.equal(cos[0, 0, :22], torch.tensor(exact))


def test_rotary_parts_of_a_head_of_128():
    assert equations.rope_parts(128) == (44, 42, 42)
    assert equations.rope_parts(32) == (12, 10, 10)


@given(layouts(), st.integers(1, 50))
def test_what_is_read_in_slices_and_written_in_slices_is_the_same_clip(layout, size):
    latents = normal(5, layout.latent_frames, 2 * layout.rows, 2 * layout.columns)
    positions = Positions.of(layout, 8, CPU)
    written = torch.full_like(latents, float("nan"))
    for tokens in portions(range(layout.tokens), size):
        rows = read_patches(latents, positions, tokens)  # in (channel, row, column) order
        write_patches(written, positions, tokens, rows.unflatten(1, (5, 4)).transpose(1, 2).flatten(1))
    assert torch.equal(written, latents)


@given(layouts())
def test_patches_times_the_flat_weight_are_the_convolution(layout):
    latents = normal(16, layout.latent_frames, 2 * layout.rows, 2 * layout.columns, dtype=torch.float64)
    weight = normal(7, 16, 1, 2, 2, dtype=torch.float64)
    expected = F.conv3d(latents[None], weight, stride=(1, 2, 2))[0].flatten(1).T
    patches = read_patches(latents, Positions.of(layout, 8, CPU), slice(0, layout.tokens))
    assert error(patches @ weight.flatten(1).T, expected) < 1e-14


# The equations


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 3e-7), (torch.bfloat16, 2 * BF16)])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_rms_norm_over_the_whole_width(dtype, bound, size):
    x, weight = normal(7, 96, dtype=dtype) * size, normal(96, seed=1, dtype=dtype)
    wide = x.double()
    expected = wide / (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight.double()
    found = equations.rms_norm_(x, weight, 1e-6)
    assert found.data_ptr() == x.data_ptr()
    assert (found.double() - expected).abs().div(expected.abs() + 1e-30).max() < 1.1 * bound


def test_rms_norm_of_fp16_does_not_overflow_in_its_squares():
    x = torch.full((2, 5120), 6e4, dtype=torch.float16)
    assert torch.equal(equations.rms_norm_(x, torch.ones(5120).half(), 1e-6), torch.ones(2, 5120).half())


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-7), (torch.bfloat16, BF16)])
def test_rotation_turns_interleaved_pairs(dtype, bound):
    x, angle = normal(5, 2, 8, dtype=dtype), 3 * normal(5, 1, 4, seed=1)
    pairs = torch.view_as_complex(x.double().unflatten(-1, (4, 2)).contiguous())
    turned = pairs * torch.polar(torch.ones_like(angle, dtype=torch.float64), angle.double())
    expected = torch.view_as_real(turned).flatten(-2)
    found = equations.rotate_(x, angle.cos(), angle.sin())
    assert found.data_ptr() == x.data_ptr()
    assert error(found, expected) < bound


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 0.01)]
)
def test_modulated_layer_norm(dtype, bound):
    x, shift, scale = (
        3 + normal(6, 64, dtype=dtype),
        normal(64, seed=1, dtype=dtype),
        normal(64, seed=2, dtype=dtype),
    )
    before, wide = x.clone(), x.double()
    centred = wide - wide.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    expected = normed * (1 + scale.double()) + shift.double()
    assert error(equations.modulate(x, shift, scale, 1e-6), expected) < bound
    assert torch.equal(x, before), "the stream itself must stay"


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 0.01)]
)
@pytest.mark.parametrize("keys", [1, 11])
def test_attention_without_a_mask(dtype, bound, keys):
    q, k, v = (normal(n, 3, 8, seed=n, dtype=dtype) for n in (5, keys, keys))
    wide = [rows.double().transpose(0, 1) for rows in (q, k, v)]
    scores = wide[0] @ wide[1].transpose(1, 2) / 8**0.5
    expected = (scores.softmax(-1) @ wide[2]).transpose(0, 1)
    found = equations.attention(q, k, v)
    assert found.shape == q.shape
    assert error(found, expected) < bound


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, BF16)]
)
def test_gelu_is_the_tanh_one_and_in_place(dtype, bound):
    x = (3 * normal(4000)).to(dtype)
    wide = x.double()
    expected = wide / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
    assert error(F.gelu(wide), expected) > 1e-5, "the other GELU must be told apart"
    found = equations.gelu_(x)
    assert found.data_ptr() == x.data_ptr()
    assert error(found, expected) < bound


def test_gated_add_euler_guidance_and_clean_estimate():
    x, y, gate = normal(3, 4), normal(3, 4, seed=1), normal(4, seed=2)
    assert torch.allclose(equations.gated_add_(x.clone(), gate, y), x + gate * y)
    assert torch.allclose(equations.euler(x, y, 0.9, 0.7), x - 0.2 * y)
    assert torch.allclose(equations.clean_estimate(x, y, 0.9), x - 0.9 * y)
    assert torch.allclose(equations.guide(x, y, 5.0), 5 * x - 4 * y)


def test_sinusoid_is_cosines_then_sines_in_float64():
    found = equations.sinusoid(torch.tensor(937.5), 8)
    angles = [937.5 * 10000 ** (-i / 4) for i in range(4)]
    expected = [*map(math.cos, angles), *map(math.sin, angles)]
    assert found.dtype == torch.float64
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_timesteps_are_rounded_to_the_compute_dtype_before_the_sinusoid():
    """903.7 is 904 in bf16; the angles of 903.7 would be those the model never saw."""
    wide, narrow = random_model(config_of()), random_model(config_of(), dtype=torch.bfloat16)
    a, b = torch.tensor(903.7), torch.tensor(904.0)
    assert all(torch.equal(*pair) for pair in zip(narrow.embed_time(a), narrow.embed_time(b), strict=True))
    assert not torch.equal(wide.embed_time(a)[0], wide.embed_time(b)[0])


def test_time_embedding_is_two_linears_then_six_parts():
    model = random_model(config_of())
    w = model.state_dict()
    e = equations.sinusoid(torch.tensor(500.0), 32).float()
    temb = oracle.linear(w, "time_embedding.2", F.silu(oracle.linear(w, "time_embedding.0", e)))
    mod = oracle.linear(w, "time_projection.1", F.silu(temb)).view(6, 32)
    found = model.embed_time(torch.tensor(500.0))
    assert torch.allclose(found[0], temb, atol=1e-6)
    assert torch.allclose(found[1], mod, atol=1e-6)


# Hooks on blocks, by which weights are streamed


def forward(model, clip=None, branches=2, seed=0):
    clip = clip or Clip(LAYOUT)
    layout = clip.layout
    latents = normal(16, layout.latent_frames, 2 * layout.rows, 2 * layout.columns, seed=seed)
    with torch.inference_mode():
        texts = [TextRows(model.embed_text(normal(20, TEXT_DIM, seed=9 + i))) for i in range(branches)]
        return model(latents, TIMESTEP, texts, clip)


def test_a_block_is_called_once_a_step_for_both_branches_and_can_be_streamed():
    """A hook brings a block's weights when it is called and takes them away after: nothing else may need them."""
    model = random_model(config_of(layers=3))
    expected = forward(model)
    store = [{name: tensor.clone() for name, tensor in block.state_dict().items()} for block in model.blocks]
    calls = []

    class Stream(ModelHook):
        def __init__(self, index):
            self.index = index

        def pre_forward(self, module, *args, **kwargs):
            calls.append(self.index)
            module.load_state_dict(store[self.index], assign=True)
            return args, kwargs

        def post_forward(self, module, output):
            module.to("meta")
            return output

    for index, block in enumerate(model.blocks):
        add_hook_to_module(block.to("meta"), Stream(index))
    found = forward(model)
    assert calls == [0, 1, 2]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert all(p.is_meta for p in model.blocks.parameters())


# The edges of what a clip can be


@pytest.mark.parametrize("attention", ["sparse", "full"])
@pytest.mark.parametrize(
    "layout",
    [
        ShotLayout((0,), 1, 1, 1),
        ShotLayout((0,), 1, 3, 2),
        ShotLayout((0, 1), 2, 1, 1),
        ShotLayout(tuple(range(300)), 300, 1, 1),
    ],
    ids=["one token", "one frame", "two tokens", "300 shots"],
)
def test_the_smallest_and_the_most_cut_clips(layout, attention):
    model, clip = random_model(config_of(layers=1)), Clip(layout, attention, Chunks(1, 1))
    (velocity,) = forward(model, clip, branches=1)
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    latents = normal(16, layout.latent_frames, 2 * layout.rows, 2 * layout.columns)
    arguments = (latents.double(), TIMESTEP, normal(20, TEXT_DIM, seed=9).double(), layout, None)
    expected = oracle.forward(weights, model.config, *arguments, sparse=attention == "sparse")
    assert error(velocity, expected) < 1e-5


def test_fp16_runs_and_the_velocity_keeps_the_latents_dtype():
    narrow, wide = random_model(config_of(), dtype=torch.float16), random_model(config_of())
    assert forward(narrow)[0].dtype == torch.float32
    assert error(forward(narrow)[0], forward(wide)[0]) < 0.02


def test_a_weight_that_is_nan_shows_in_the_velocity():
    """No operation may swallow it: a broken file must not look like a picture."""
    model = random_model(config_of())
    model.blocks[1].ffn[2].bias[3] = float("nan")
    assert forward(model)[0].isnan().all()


def test_forward_leaves_latents_and_text_alone():
    model = random_model(config_of())
    latents, rows = normal(16, 6, 6, 8), model.embed_text(normal(20, TEXT_DIM))
    before = latents.clone(), rows.clone()
    with torch.inference_mode():
        model(latents, TIMESTEP, [TextRows(rows)], Clip(LAYOUT))
    assert torch.equal(latents, before[0])
    assert torch.equal(rows, before[1])
