"""Products in 8 bits: bounds of the formats, exact sums, and the layers of a model that are multiplied so.

The kernels for a card run here too, where Triton is installed: by its interpreter, in a process of its own, and
through its compiler for the cards that are meant. Both need no card.
"""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from live_bytes import LiveBytes
from own_process import own_process
from small_model import config_of, random_model

from holo_lite.eightbit import product
from holo_lite.eightbit.coding import has_triton, quantize
from holo_lite.eightbit.limits import SLICE, multiplying, unfit
from holo_lite.eightbit.product import multiply, off, reference, runs_row_by_row
from holo_lite.eightbit.rows import FORMATS, FP8, INT8, Rows
from holo_lite.errors import SettingsError
from holo_lite.kernels import linear_choice as eight_bit
from holo_lite.kernels.linear_choice import pick_linear
from holo_lite.lora.low_rank import LowRank
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.compute import Compute
from holo_lite.model.layers import TextRows
from holo_lite.model.linear import CodedAffine, Linear, PlainAffine, pack_linears
from holo_lite.schemes.registry import SCHEMES, find
from holo_lite.story.shots import ShotLayout

CPU, BF16, FP32 = torch.device("cpu"), torch.bfloat16, torch.float32
CARD = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card: run on one")
TRITON = pytest.mark.skipif(not has_triton(), reason="needs Triton: pip install triton")
BITS = sorted(FORMATS)
OUTPUTS, INPUTS = 96, 64


def numbers(rows, width, seed=0, dtype=FP32, spread=1.0):
    return (torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * spread).to(dtype)


def same_bits(one, other):
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


# --- rows ------------------------------------------------------------------------------------------

floats = st.floats(-(2.0**100), 2.0**100, width=32).filter(lambda x: x == 0 or abs(x) > 2.0**-90)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(floats, min_size=n, max_size=n), min_size=1)))
@pytest.mark.parametrize("bits", BITS)
def test_no_number_is_further_off_than_its_format_says(bits, rows):
    given_rows = torch.tensor(rows)
    back = quantize(given_rows, FORMATS[bits]).numbers().double()
    absmax = given_rows.double().abs().amax(dim=1, keepdim=True)
    step = absmax / 127 / 2 if bits == "int8" else given_rows.double().abs() / 16 + absmax / 448 / 1024
    assert ((back - given_rows.double()).abs() <= step * (1 + 1e-6)).all()


@pytest.mark.parametrize(("bits", "bound"), [("int8", 0.0100), ("fp8", 0.0285)])
@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_a_gaussian_row_loses_what_the_schemes_of_the_same_grid_lose(bits, bound, dtype):
    given_rows = numbers(20, 5120, dtype=dtype)
    error = off(quantize(given_rows, FORMATS[bits]).numbers(), given_rows)
    assert 0.8 * bound < error < bound


@pytest.mark.parametrize("bits", BITS)
def test_each_row_has_a_scale_of_its_own_and_its_largest_number_is_the_formats(bits):
    form, given_rows = FORMATS[bits], numbers(6, 40) * torch.logspace(-8, 8, 6)[:, None]
    rows = quantize(given_rows, form)
    assert rows.codes.float().abs().amax(dim=1).tolist() == [form.largest] * 6
    for index in range(6):
        alone = quantize(given_rows[index : index + 1], form)
        assert same_bits(rows.codes[index : index + 1], alone.codes)
        assert torch.equal(rows.scale[index : index + 1], alone.scale)


@pytest.mark.parametrize("bits", BITS)
def test_rows_of_zeros_are_zeros_and_a_nan_is_not_hidden(bits):
    given_rows = numbers(4, 16)
    given_rows[0], given_rows[1], given_rows[2, 3] = 0, 1e-40, math.nan
    rows = quantize(given_rows, FORMATS[bits])
    assert rows.codes[:2].float().eq(0).all()
    out = multiply(rows, quantize(numbers(5, 16), FORMATS[bits]), None)
    assert out.isnan().all(dim=1).tolist() == [False, False, True, False]
    assert out[:2].eq(0).all()


def test_a_weight_in_slices_has_the_bits_it_has_whole(monkeypatch):
    whole = quantize(numbers(50, 64), INT8)
    monkeypatch.setattr("holo_lite.eightbit.limits.SLICE", 640)
    sliced = quantize(numbers(50, 64), INT8)
    assert same_bits(whole.codes, sliced.codes)
    assert torch.equal(whole.scale, sliced.scale)


# --- products --------------------------------------------------------------------------------------


def rows_of(codes, scale, form, dtype=FP32):
    return Rows(form, codes, scale, dtype)


def exact_product(x, weight, bias):
    """In integers of any size, scaled and rounded as the kernels do: sums to fp32, both scales, the bias."""
    sums = x.codes.long() @ weight.codes.long().T
    out = sums.float() * x.scale * weight.scale.T
    return (out if bias is None else out + bias.float()).to(x.dtype)


shapes = st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 50))


@settings(max_examples=40, deadline=None)
@given(shape=shapes, seed=st.integers(0, 999), biased=st.booleans(), dtype=st.sampled_from([BF16, FP32]))
def test_products_of_int8_are_exact_to_the_last_bit(shape, seed, biased, dtype):
    n, k, o = shape
    generator = torch.Generator().manual_seed(seed)
    x, weight = (
        rows_of(
            torch.randint(-127, 128, (rows, k), dtype=torch.int8, generator=generator),
            torch.rand(rows, 1, generator=generator),
            INT8,
            dtype,
        )
        for rows in (n, o)
    )
    bias = torch.randn(o, generator=generator).to(dtype) if biased else None
    assert torch.equal(multiply(x, weight, bias), exact_product(x, weight, bias))


@pytest.mark.parametrize("vnni", [True, False])
def test_the_largest_sums_do_not_overflow(monkeypatch, vnni):
    """The longest row of the model, every code the largest: on CPUs without VNNI the library would saturate."""
    if vnni and not torch.cpu._is_vnni_supported():
        pytest.skip("needs a CPU with VNNI: run on one")
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: vnni)
    x, weight = (
        rows_of(torch.full((3, 13824), sign * 127, dtype=torch.int8), torch.ones(3, 1), INT8) for sign in (1, -1)
    )
    assert multiply(x, weight, None).tolist() == [[-(127.0**2) * 13824] * 3] * 3


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 300),
    inputs=st.integers(16, 6000),
    outputs=st.integers(1, 900),
    bits=st.sampled_from(["int8 with VNNI", "int8 without", "fp8"]),
)
def test_a_product_on_either_kind_of_cpu_takes_no_more_than_is_planned(rows, inputs, outputs, bits):
    """And all of it, but for int8 with VNNI, for which a plan has the room that a CPU without it takes."""
    form = FP8 if bits == "fp8" else INT8
    x, weight = (Rows.empty(n, inputs, form, dtype=BF16, device=CPU) for n in (rows, outputs))
    with pytest.MonkeyPatch.context() as patch, LiveBytes() as live:
        patch.setattr(torch.cpu, "_is_vnni_supported", lambda: bits == "int8 with VNNI")
        reference(x, weight, None)
    planned = multiplying(form.name, rows, inputs, outputs) + rows * outputs * BF16.itemsize
    assert live.peak <= planned
    assert bits == "int8 with VNNI" or live.peak >= 0.95 * planned


@settings(max_examples=40, deadline=None)
@given(shape=shapes, seed=st.integers(0, 999), biased=st.booleans())
def test_products_of_fp8_are_those_of_their_numbers(shape, seed, biased):
    n, k, o = shape
    x, weight = quantize(numbers(n, k, seed), FP8), quantize(numbers(o, k, seed + 1), FP8)
    bias = numbers(1, o, seed + 2)[0] if biased else None
    expected = x.numbers().double() @ weight.numbers().double().T + (0 if bias is None else bias.double())
    assert torch.allclose(multiply(x, weight, bias).double(), expected, rtol=1e-5, atol=1e-5 * k**0.5)


@pytest.mark.parametrize("bits", BITS)
def test_cutting_the_weight_into_slices_changes_nothing(bits, monkeypatch):
    x, weight = (quantize(numbers(rows, 32, rows), FORMATS[bits]) for rows in (7, 45))
    whole = multiply(x, weight, None)
    monkeypatch.setattr("holo_lite.eightbit.limits.SLICE", 32 * 8)
    assert torch.allclose(multiply(x, weight, None), whole, rtol=1e-6)


@pytest.mark.parametrize("biased", [True, False])
def test_pytorchs_own_product_of_fp8_rows_is_the_reference(biased):
    """On a CPU it is slow, and so not taken; that it is called rightly shows here."""
    x, weight = (quantize(numbers(rows, 64, rows, BF16), FP8) for rows in (9, 48))
    bias = numbers(1, 48, 3, BF16)[0] if biased else None
    found, expected = product.row_by_row(x, weight, bias), reference(x, weight, bias)
    assert found.dtype == expected.dtype == BF16
    assert off(found, expected) < 2**-8
    assert runs_row_by_row(CPU)


# --- layers ----------------------------------------------------------------------------------------


def linear_of(scheme, weight, bias=None):
    outputs, inputs = weight.shape
    with torch.device("meta"):
        module = torch.nn.Sequential(Linear(inputs, outputs, bias=bias is not None))
        pack_linears(module, {"0.weight": scheme} if scheme else {})
    state = {f"0.weight.{name}": part for name, part in find(scheme).pack(weight).items()} if scheme else {}
    state = state or {"0.weight": weight}
    module.load_state_dict(state | ({"0.bias": bias} if bias is not None else {}), assign=True)
    return module[0].requires_grad_(False)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_a_layer_in_8_bits_is_near_the_plain_one_whatever_it_is_stored_as(scheme, bits):
    weight, x = numbers(OUTPUTS, INPUTS, 1, BF16), numbers(30, INPUTS, 2, BF16)
    layer = linear_of(scheme, weight, numbers(1, OUTPUTS, 3, BF16)[0])
    ready = layer.unpacked(BF16, bits)
    assert isinstance(ready, CodedAffine)
    found = ready(x)
    assert (found.shape, found.dtype) == ((30, OUTPUTS), BF16)
    assert 0 < off(found, layer(x)) < {"int8": 0.02, "fp8": 0.05}[bits]


@pytest.mark.parametrize(("scheme", "bits"), [("int8", "int8"), ("qint8", "int8"), ("qfloat8", "fp8")])
def test_a_weight_stored_in_the_format_is_multiplied_as_it_lies(scheme, bits):
    layer = linear_of(scheme, numbers(OUTPUTS, INPUTS, 1))
    ready = layer.unpacked(FP32, bits)
    assert ready.weight.codes.data_ptr() == layer.weight.codes.data_ptr()
    detour = quantize(layer.weight.unpack(FP32), FORMATS[bits])
    assert same_bits(ready.weight.codes, detour.codes)
    assert torch.allclose(ready.weight.scale, detour.scale, rtol=2**-22)
    assert torch.allclose(ready.weight.numbers(), layer.weight.unpack(FP32), rtol=2**-22)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("scheme", [None, "int8", "nf4", "qint4"])
def test_an_adapters_product_is_in_the_weight_before_it_is_rounded(scheme, bits, monkeypatch):
    weight = numbers(OUTPUTS, INPUTS, 1)
    monkeypatch.setattr("holo_lite.schemes.scheme.SLICE", 20 * INPUTS)
    layer = linear_of(scheme, weight)
    before = layer.weight.unpack(FP32) if scheme else weight.clone()
    layer.adapter = LowRank(numbers(OUTPUTS, 4, 5), numbers(4, INPUTS, 6), 0.5)
    expected = quantize(before + 0.5 * (layer.adapter.up @ layer.adapter.down), FORMATS[bits])
    assert off(layer.unpacked(FP32, bits).weight.numbers(), expected.numbers()) < 0.001
    assert torch.equal(layer.weight.unpack(FP32) if scheme else layer.weight, before)


def test_sides_that_do_not_suit_are_multiplied_plainly():
    layer = linear_of(None, numbers(24, 32))
    assert isinstance(layer.unpacked(FP32, "fp8"), PlainAffine)
    assert isinstance(layer.unpacked(FP32, "int8"), CodedAffine)
    assert unfit("fp8", 24, 32) == "weights of 24x32 are not rounded: fp8 needs multiples of 16"
    assert unfit("fp8", 5120, 13824) is None


def forward(model, linear):
    layout = ShotLayout((0, 2), 4, 3, 4)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(16, 4, 6, 8, generator=generator)
    rows = torch.randn(20, 24, generator=generator)
    model.compute = Compute(linear=linear)
    with torch.inference_mode():
        text = TextRows(model.embed_text(rows), (torch.arange(7), torch.arange(5, 20)))
        return model(latents, torch.tensor(600.0), [text], Clip(layout, "sparse", Chunks(5, 7)))[0]


@pytest.mark.parametrize(("bits", "bound"), [("int8", 0.02), ("fp8", 0.06)])
@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_a_whole_forward_stays_near_the_plain_one(bits, bound, dtype):
    model = random_model(config_of(32, 4, 2, 320), dtype=dtype)
    error = off(forward(model, bits), forward(model, "plain"))
    assert bound / 10 < error < bound


def test_a_block_in_8_bits_holds_no_dense_weight():
    """Beside codes and scales there are slices in fp32, and no more of them than the plan says."""
    rows = 4 * SLICE // 2048
    layer = linear_of(None, torch.zeros(rows, 2048, dtype=BF16))
    with LiveBytes() as live:
        live.ignore(layer.weight)
        layer.unpacked(BF16, "int8")
    assert live.peak < rows * 2048 + 5 * SLICE


# --- what a person says ----------------------------------------------------------------------------


@pytest.fixture
def card(monkeypatch):
    """A card of any capability, on which every product comes out as on a CPU."""

    def make(capability, *, triton=True, row_by_row=True):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(eight_bit, "has_triton", lambda: triton)
        monkeypatch.setattr(eight_bit, "runs_row_by_row", lambda _: row_by_row)
        monkeypatch.setattr(eight_bit, "_trial", lambda *_: None)
        return torch.device("cuda")

    return make


@pytest.mark.parametrize(
    ("capability", "stored", "mode", "says"),
    [
        ((8, 9), "nf4", "plain", "this card can also do fp8 and int8"),
        ((8, 6), "bf16", "plain", "this card can also do int8,"),
        ((7, 5), "int8", "plain", "int8, the format of the stored weights, needs"),
        ((8, 6), "int8", "int8", "matches the stored weights"),
        ((12, 0), "qint8", "int8", "matches the stored weights"),
        ((9, 0), "qfloat8", "fp8", "matches the stored weights"),
        ((8, 6), "qfloat8", "plain", "fp8, the format of the stored weights, needs an RTX 40xx"),
        ((7, 5), "fp32", "plain", "matches the stored weights"),
    ],
)
def test_auto_takes_8_bits_only_where_the_weights_have_them(card, capability, stored, mode, says):
    found, why = pick_linear("auto", card(capability), BF16, stored=stored)
    assert found == mode
    assert says in why
    assert why.startswith(f"compute {'bf16' if mode == 'plain' else mode}: ")
    assert "\n" not in why


@pytest.mark.parametrize(
    ("said", "capability", "dtype", "given", "says"),
    [
        (
            "fp8",
            (8, 6),
            BF16,
            {},
            "needs an RTX 40xx, an H100, or later (compute capability 8.9); this card has 8.6",
        ),
        ("int8", (7, 5), BF16, {}, "needs an RTX 30xx, an A100, or later (compute capability 8.0)"),
        ("int8", (8, 6), BF16, {"triton": False}, "pip install triton"),
        ("fp8", (12, 0), BF16, {"triton": False, "row_by_row": False}, "pip install triton"),
        ("fp8", (9, 0), FP32, {}, "give --dtype bf16"),
    ],
)
def test_what_a_card_cannot_do_is_refused_with_the_reason(card, said, capability, dtype, given, says):
    with pytest.raises(SettingsError) as raised:
        pick_linear(said, card(capability, **given), dtype)
    assert says in str(raised.value)
    assert "give --compute bf16" in str(raised.value)


def test_fp8_needs_no_triton_where_pytorch_has_a_kernel(card):
    assert pick_linear("fp8", card((9, 0), triton=False), BF16)[0] == "fp8"


def test_a_card_that_computes_something_else_is_refused(monkeypatch):
    monkeypatch.setattr(eight_bit, "multiply", lambda x, weight, bias: 2 * reference(x, weight, bias))
    assert "1 off" in eight_bit._trial("int8", CPU, BF16)
    monkeypatch.setattr(eight_bit, "multiply", lambda *_: 1 / 0)
    assert eight_bit._trial("int8", CPU, BF16) == "does not run here (division by zero)"
    monkeypatch.undo()
    assert eight_bit._trial("int8", CPU, BF16) is None


def test_a_cpu_takes_whatever_is_named():
    assert pick_linear("auto", CPU, FP32, stored="int8")[0] == "plain"
    assert pick_linear("bf16", CPU, FP32) == ("plain", "compute bf16: as asked")
    assert pick_linear("int8", CPU, FP32, sides=(96, 40))[0] == "int8"
    mode, why = pick_linear("fp8", CPU, FP32, sides=(96, 40))
    assert mode == "fp8"
    assert "what it costs the picture; weights of 40x96 are not rounded" in why
    with pytest.raises(
        SettingsError, match="compute 'int9': give one of auto, bf16, int8, fp8; did you mean 'int8'"
    ):
        pick_linear("int9", CPU, FP32)


# --- on cards --------------------------------------------------------------------------------------


@TRITON
def test_the_kernels_compute_what_the_plain_functions_do():
    own_process("triton_interpreted.py", TRITON_INTERPRET="1")


@TRITON
def test_the_kernels_compile_for_the_cards_that_are_meant(tmp_path):
    own_process("triton_compiled.py", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))


@CARD
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(1, 64, 48), (300, 512, 640), (4096, 5120, 13824), (77, 100, 30)])
def test_a_card_computes_what_the_reference_does(bits, shape):
    n, k, o = shape
    if unfit(bits, o, k):
        pytest.skip("sides that are not taken")
    form, device = FORMATS[bits], torch.device("cuda")
    if torch.cuda.get_device_capability(device) < eight_bit.LEAST[bits]:
        pytest.skip("this card cannot: run on a later one")
    x, weight, bias = numbers(n, k, 1, BF16), numbers(o, k, 2, BF16), numbers(1, o, 3, BF16)[0]
    ours, theirs = (quantize(each.to(device), form) for each in (x, weight))
    expected = quantize(x, form)
    assert same_bits(ours.codes.cpu(), expected.codes)
    assert torch.equal(ours.scale.cpu(), expected.scale)
    found = multiply(ours, theirs, bias.to(device)).cpu()
    wanted = reference(expected, quantize(weight, form), bias)
    assert torch.equal(found, wanted) if bits == "int8" else off(found, wanted) < 0.01


def test_the_formats_are_named_alike_everywhere():
    assert set(FORMATS) == set(eight_bit.LEAST) == {replace(form).name for form in FORMATS.values()}
