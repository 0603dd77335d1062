"""Runs the fused operations for a card on CPU tensors, by Triton's interpreter. No test itself.

They are compared with the equations: at odd lengths, rows that lie apart, memory that begins anywhere, and tokens
in the middle of a frame. The interpreter truncates where a card rounds to bf16 and fp8, so bounds are wider there.
"""

import random as choices
from collections import defaultdict
from dataclasses import replace
from unittest.mock import patch

import torch
from interpreting import without_detours
from small_model import config_of, random_model

from holo_lite.eightbit import triton_rows
from holo_lite.eightbit.coding import quantize
from holo_lite.eightbit.product import off, reference
from holo_lite.eightbit.rows import FP8, INT8, Rows
from holo_lite.kernels import fused_triton
from holo_lite.kernels.fused import TrialInputs, first_wrong
from holo_lite.kernels.fused_triton import triton_ops
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.compute import PLAIN, Compute
from holo_lite.model.layers import TextRows
from holo_lite.model.operations import Norm, Ops
from holo_lite.model.positions import Positions
from holo_lite.story.shots import ShotLayout

BF16, FP32 = torch.bfloat16, torch.float32
BOUNDS = {FP32: 2e-6, BF16: 2**-6}
TRUNCATED = 2**-3  # of fp8, whose three bits of mantissa the interpreter does not round
GENERATOR = torch.Generator().manual_seed(0)
FUSED, SAFE = triton_ops(), Ops()
EPS = 1e-6


def random(*shape, dtype=FP32):
    return torch.randn(*shape, generator=GENERATOR).to(dtype)


def apart(rows, width, dtype, gap, offset):
    """Rows that lie `gap` numbers apart, from `offset` on, among numbers to be left alone."""
    memory = random(rows * (width + gap) + offset, dtype=dtype)
    return memory, memory.as_strided((rows, width), (width + gap, 1), offset)


def same(found, expected, bound):
    if isinstance(expected, Rows):
        assert found.dtype == expected.dtype
        assert found.codes.shape == expected.codes.shape
        assert off(found.numbers(), expected.numbers()) < max(bound, 2**-6), "codes"
        assert torch.allclose(found.scale, expected.scale, rtol=2 * bound)
        return
    assert found.dtype == expected.dtype
    assert off(found, expected) < bound, off(found, expected)


def case(seed):
    """A number of rows, a width, a dtype, and how the rows lie."""
    pick = choices.Random(seed)
    return (
        pick.randint(1, 6),
        2 * pick.randint(1, 90),
        pick.choice([FP32, BF16]),
        pick.randint(0, 9),
        pick.randint(0, 5),
    )


def check_rows(seed):
    rows, width, dtype, gap, offset = case(seed)
    memory, x = apart(rows, width, dtype, gap, offset)
    before, one, other = memory.clone(), random(width, dtype=dtype), random(width, dtype=dtype)
    for form in (None, INT8):
        for name in ("modulate", "layer_norm"):
            found, expected = (getattr(ops, name)(x, one, other, EPS, form) for ops in (FUSED, SAFE))
            same(found, expected, BOUNDS[dtype])
    check_given_memory(x, one, other)
    same(FUSED.gelu_(x, INT8), SAFE.gelu_(x.clone(), INT8), BOUNDS[dtype])
    assert torch.equal(memory, before), "what is read only was changed"
    update = apart(rows, width, dtype, gap + 3, offset)[1]
    in_place(memory, x, lambda ops, rows: ops.norm_(rows, one, EPS), dtype)
    for gate in (one, None):
        in_place(memory, x, lambda ops, rows, gate=gate: ops.gated_add_(rows, update, gate), dtype)


def check_given_memory(x, one, other):
    """In rows of a larger memory, to the bit what is made in new memory; the rows around them stay."""
    count = len(x)
    for form in (None, INT8):
        made = FUSED.modulate(x, one, other, EPS, form)
        larger = torch.cat([x] * 3) if form is None else quantize(torch.cat([x] * 3), form)
        before = [part.clone() for part in parts(larger)]
        place = larger[count : 2 * count]
        assert FUSED.modulate(x, one, other, EPS, form, place) is place
        for found, expected, left in zip(parts(larger), parts(made), before, strict=True):
            left[count : 2 * count] = expected
            assert torch.equal(found, left)


def parts(x):
    return (x.codes, x.scale) if isinstance(x, Rows) else (x,)


def in_place(memory, x, call, dtype):
    """The rows become what they should, and what lies between them stays as it is."""
    before, expected = memory.clone(), call(SAFE, x.clone())
    found = call(FUSED, x)
    assert found is x
    same(x, expected, BOUNDS[dtype])
    left = memory.clone()
    left.as_strided(x.shape, x.stride(), x.storage_offset()).copy_(
        before.as_strided(x.shape, x.stride(), x.storage_offset())
    )
    assert torch.equal(left, before), "memory between the rows was written"


def normed(x, norm, form):
    if norm.one:
        return FUSED.modulate(x, norm.shift, norm.scale, norm.eps, form)
    return FUSED.layer_norm(x, norm.scale, norm.shift, norm.eps, form)


def check_sum_and_norm(seed):
    """In rows of larger memories: x to the bit as `gated_add_` leaves it, and its norm; the rows around stay."""
    rows, width, dtype, gap, offset = case(seed)
    scale, shift, vector = (random(width, dtype=dtype) for _ in range(3))
    _, update = apart(rows, width, dtype, gap + 3, offset)
    for form, gate, one in ((INT8, vector, 1.0), (INT8, None, 0.0), (FP8, vector, 0.0), (FP8, None, 1.0)):
        memory, x = apart(rows, width, dtype, gap, offset)
        norm, summed = Norm(scale, shift, EPS, one), FUSED.gated_add_(x.clone(), update, gate)
        larger = quantize(random(3 * rows, width, dtype=dtype), form)
        place, before = larger[rows : 2 * rows], [part.clone() for part in (memory, *parts(larger))]
        fused_triton.add_norm_(x, update, gate, norm, place)
        assert torch.equal(x, summed), "the sum"
        alone = normed(summed, norm, form)
        assert torch.equal(place.codes.float(), alone.codes.float()), "codes as of a norm that reads the sum"
        assert torch.equal(place.scale, alone.scale)
        same(place, norm.of(summed, quantize(summed, form)), BOUNDS[dtype] if form.whole else TRUNCATED)
        x.copy_(before[0].as_strided(x.shape, x.stride(), offset))
        assert torch.equal(memory, before[0]), "memory between the rows was written"
        for part, left in zip(parts(larger), before[1:], strict=True):
            part[rows : 2 * rows] = left[rows : 2 * rows]
            assert torch.equal(part.float(), left.float()), "rows around were written"


def check_product_sum_and_norm():
    """By a product and the kernel, and by the product in tiles that adds, then the norm: as the plain ones."""
    for form in (INT8, FP8):
        x, weight, bias = quantize(random(9, 48), form), quantize(random(32, 48), form), random(32)
        norm, start = Norm(random(32), random(32), EPS, 1.0), random(9, 32)
        expected, place = start.clone(), quantize(start, form)
        wanted = SAFE.multiply_add_norm_(expected, x, weight, bias, norm.shift, norm, quantize(start, form))
        for adds in (False, True):
            stream, tiles = start.clone(), (16, 32, 16, 4, 1)
            with (
                patch.object(fused_triton, "_adds_in_tiles", lambda *_, adds=adds: adds),
                patch.object(triton_rows, "_measured", lambda tiles=tiles: defaultdict(lambda: tiles)),
            ):
                assert FUSED.multiply_add_norm_(stream, x, weight, bias, norm.shift, norm, place) is place
            assert torch.allclose(stream, expected, rtol=1e-5, atol=1e-5)
            same(place, wanted, 2**-6 if form.whole else TRUNCATED)


def check_turn(seed):
    """Heads of any number and even width; tokens of any part of a clip."""
    pick = choices.Random(seed)
    heads, head_dim, dtype = pick.randint(1, 5), pick.choice([2, 6, 8, 16, 24, 32]), pick.choice([FP32, BF16])
    layout = ShotLayout((0,), pick.randint(1, 4), pick.randint(1, 4), pick.randint(1, 5))
    first = pick.randrange(layout.tokens)
    tokens = slice(first, pick.randint(first + 1, min(layout.tokens, first + 6)))
    positions = Positions.of(layout, head_dim, torch.device("cpu"))
    width, count = heads * head_dim, tokens.stop - tokens.start
    memory, x = apart(count, width, dtype, 0, pick.randint(0, 5))
    weight = random(width, dtype=dtype)
    in_place(memory, x, lambda ops, rows: ops.norm_turn_(rows, weight, EPS, positions, tokens), dtype)


def check_product_sum(n, k, o):
    """In the product's epilogue, to the bit what the product and the sum are, with and without bias and gate."""
    x, weight = quantize(random(n, k), INT8), quantize(random(o, k), INT8)
    for bias in (random(o), None):
        for gate in (random(o), None):
            _, stream = apart(n, o, FP32, 3, 1)
            expected = SAFE.gated_add_(stream.clone(), reference(x, weight, bias), gate)
            fused_triton.multiply_add_in_tiles(stream, x, weight, bias, gate, (16, 32, 16, 4, 1))
            assert torch.allclose(stream, expected, rtol=1e-6, atol=1e-6), (n, k, o)


def check_first_products():
    """The first product of a shape is measured, and its sum made apart; the sum is added once, not once a tile."""
    measured = []

    def no_time(call):
        call()
        measured.append(call)
        return float(len(measured))

    x, weight, bias = quantize(random(9, 24), INT8), quantize(random(20, 24), INT8), random(20)
    start = random(9, 20)
    with (
        patch.multiple(triton_rows, TILES=((16, 16, 16, 4, 1), (32, 16, 16, 4, 1)), _seconds=no_time),
        patch.object(fused_triton, "multiply", triton_rows.multiply),
    ):
        for _ in range(2):
            found = FUSED.multiply_add_(start.clone(), x, weight, bias, None)
            assert torch.allclose(found, start + reference(x, weight, bias), rtol=1e-6, atol=1e-6)
    assert len(measured) == 2


def forward(model, clip, compute):
    generator = torch.Generator().manual_seed(0)
    latents, rows = torch.randn(16, 3, 4, 6, generator=generator), torch.randn(12, 24, generator=generator)
    model.compute = compute
    with torch.inference_mode():
        text = TextRows(model.embed_text(rows), tuple(torch.arange(3 + shot) for shot in range(2)))
        return model(latents, torch.tensor(600.0), [text, TextRows(text.rows)], clip)


def check_model():
    """A whole forward, shot by shot in odd chunks, with both kinds of prompts; what follows a block: in fp32."""
    clip = Clip(ShotLayout((0, 2), 3, 2, 3), "sparse", Chunks(7, 5))
    for dtype, blocks, bound in ((FP32, 2, 1e-5), (BF16, 1, 0.03)):
        model = random_model(config_of(16, 2, blocks, 80), dtype=dtype)
        for found, expected in zip(
            forward(model, clip, Compute(ops=FUSED)), forward(model, clip, PLAIN), strict=True
        ):
            assert 0 < off(found, expected) < bound, (dtype, off(found, expected))
    model = random_model(config_of(16, 2, 2, 80))
    for plain, bound in ((Compute(linear="int8"), 0.005), (Compute(linear="fp8"), 0.05)):
        held = replace(clip, chunks=replace(clip.chunks, holding=True))  # in fp8 a shot goes through all layers
        for found, expected in zip(
            forward(model, held, replace(plain, ops=FUSED)), forward(model, clip, plain), strict=True
        ):
            assert off(found, expected) < bound, (plain.linear, off(found, expected))


without_detours()
for seed in range(25):
    check_rows(seed)
    check_turn(seed)
for seed in range(10):
    check_sum_and_norm(seed)
for sides in ((1, 16, 16), (5, 33, 7), (40, 100, 70)):
    check_product_sum(*sides)
check_first_products()
check_product_sum_and_norm()
check_model()
for dtype in (FP32, BF16):
    inputs = TrialInputs(5, torch.device("cpu"), dtype, 96, 4)
    assert first_wrong(FUSED, inputs, None) is None
spoilt = random(3, 20)
spoilt[1, 7] = torch.nan
assert FUSED.gelu_(spoilt, INT8).scale.isnan().flatten().tolist() == [False, True, False]
assert FUSED.modulate(spoilt, spoilt[0], spoilt[0], EPS, FP8).scale.isnan().flatten().tolist() == [
    False,
    True,
    False,
]
extremes = torch.tensor([-1e10, -100.0, -10.0, 0.0, 10.0, 100.0, 1e10])[:, None]
assert torch.allclose(FUSED.gelu_(extremes.clone(), INT8).numbers(), extremes.clamp(min=0), rtol=0.01)
