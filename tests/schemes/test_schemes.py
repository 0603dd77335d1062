"""Every scheme against its library's own round trip, its stated bound against the theory, and odd weights."""

import math
import subprocess
import sys
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path

import bitsandbytes.functional as bnb
import pytest
import torch
from hypothesis import given, settings, strategies as st
from optimum import quanto
from optimum.quanto.library.extensions import extension
from optimum.quanto.tensor.packed import PackedTensor

from holo_lite.errors import SettingsError
from holo_lite.schemes.bnb import Int8, Nf4, Nf4Single, int8_into, int8_through_half, nf4
from holo_lite.schemes.names import NAMES as ALL_NAMES
from holo_lite.schemes.quanto import group_size
from holo_lite.schemes.registry import SCHEMES, find

NAMES = tuple(SCHEMES)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
FLOAT = torch.float32
WIDEST = 13824  # the longest row in the model


@pytest.fixture(autouse=True, scope="module")
def _no_compiler():
    """quanto's C++ takes half a minute to compile and lands in site-packages: it must never be asked for."""

    def load(name, **_):
        raise AssertionError(f"quanto wants to compile {name}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extension, "load", load)
        yield


def gaussian(shape, dtype=FLOAT, seed=0, spread=0.02):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread).to(dtype)


def trip(scheme, weight, dtype=FLOAT):
    return scheme.unpack(scheme.pack(weight), tuple(weight.shape), dtype)


def error(got, wanted):
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


def equal_parts(one, other):
    """Equal bit for bit; float8 has no comparison, so bytes are compared."""
    return list(one) == list(other) and all(
        torch.equal(one[name].flatten().view(torch.uint8), other[name].flatten().view(torch.uint8)) for name in one
    )


names = st.sampled_from(NAMES)
dtypes = st.sampled_from(DTYPES)
shapes = st.tuples(st.integers(1, 70), st.integers(1, 6).map(lambda n: 64 * n))
seeds = st.integers(0, 2**31)


# --- what the interface promises


@settings(max_examples=60, deadline=None)
@given(names, shapes, dtypes, seeds)
def test_pack_gives_exactly_the_parts_that_were_announced(name, shape, dtype, seed):
    scheme, weight = find(name), gaussian(shape, dtype, seed)
    before = weight.clone()
    packed, announced = scheme.pack(weight), scheme.parts(shape)
    assert [(n, tuple(t.shape), t.dtype) for n, t in packed.items()] == [
        (n, p.shape, p.dtype) for n, p in announced.items()
    ]
    assert all(type(part) is torch.Tensor and part.is_contiguous() for part in packed.values())
    assert scheme.nbytes(shape) == sum(part.nbytes for part in packed.values())
    unpacked = scheme.unpack(packed, shape, dtype)
    assert type(unpacked) is torch.Tensor
    assert unpacked.dtype == dtype
    assert unpacked.shape == shape
    assert unpacked.is_contiguous()
    assert torch.equal(weight, before)


@settings(max_examples=60, deadline=None)
@given(names, shapes, dtypes, seeds, st.integers(1, 3000))
def test_slices_do_not_change_a_bit(name, shape, dtype, seed, elements):
    scheme, weight = find(name), gaussian(shape, dtype, seed)
    sliced = replace(scheme, slice_elements=elements)
    whole = scheme.pack(weight)
    assert equal_parts(sliced.pack(weight), whole)
    assert torch.equal(sliced.unpack(whole, shape, dtype), scheme.unpack(whole, shape, dtype))


@settings(max_examples=30, deadline=None)
@given(names, shapes, dtypes, seeds)
def test_a_strided_weight_packs_as_its_copy_does(name, shape, dtype, seed):
    wide = gaussian((shape[1], 2 * shape[0]), dtype, seed)
    strided = wide.t()[::2]
    assert equal_parts(find(name).pack(strided), find(name).pack(strided.contiguous()))


@pytest.mark.parametrize("name", NAMES)
def test_bf16_goes_through_no_narrower_type(name):
    """bf16 reaches far beyond fp16 in both directions; the error must not know."""
    weight = gaussian((64, 256), torch.bfloat16)
    small = trip(find(name), weight)
    for power in (2.0**-90, 2.0**90):
        assert error(trip(find(name), weight * power) / power, small) < 1e-6


@pytest.mark.parametrize("name", ["bf16", "int8", "nf4-single", "qint8", "qfloat8"])
def test_a_second_round_trip_changes_nothing(name):
    """The largest number of a row or block is kept exactly, so the grid it spans is found again."""
    once = trip(find(name), gaussian((40, 320), torch.bfloat16), torch.bfloat16)
    assert torch.equal(trip(find(name), once, torch.bfloat16), once)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_unpacking_rounds_once_from_float32(name, dtype):
    weight = gaussian((9, 128))
    assert torch.equal(trip(find(name), weight, dtype), trip(find(name), weight).to(dtype))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("device", DEVICES)
def test_every_device_stores_as_well(name, device):
    scheme, weight = find(name), gaussian((256, 512), torch.bfloat16).to(device)
    packed = scheme.pack(weight)
    assert {part.device.type for part in packed.values()} == {device}
    assert error(scheme.unpack(packed, (256, 512), FLOAT), weight) <= scheme.error_bound
    at_home = scheme.unpack({n: p.cpu() for n, p in packed.items()}, (256, 512), FLOAT)
    assert error(at_home, scheme.unpack(packed, (256, 512), FLOAT).cpu()) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_parts_may_lie_at_any_eighth_byte(name):
    """Mapped safetensors promise no more; quanto's own matmul segfaults on it."""
    scheme, weight = find(name), gaussian((16, 256), torch.bfloat16)
    packed, moved = scheme.pack(weight), {}
    for part_name, part in packed.items():
        room = torch.empty(part.nbytes + 72, dtype=torch.uint8)
        start = -room.data_ptr() % 64 + 8
        place = room[start : start + part.nbytes].view(part.dtype).view(part.shape)
        moved[part_name] = place.copy_(part)
    assert torch.equal(scheme.unpack(moved, (16, 256), FLOAT), scheme.unpack(packed, (16, 256), FLOAT))


# --- odd weights


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 8])
def test_zeros_stay_zeros(name, rows):
    weight = gaussian((rows, 128))
    weight[-1] = 0
    got = trip(find(name), weight)
    assert got.isfinite().all()
    assert torch.equal(got[-1], torch.zeros(128))
    assert torch.equal(trip(find(name), torch.zeros(rows, 128)), torch.zeros(rows, 128))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [1.0, -0.37, 1e-30, -1e30])
def test_a_constant_comes_back(name, value):
    weight = torch.full((3, 192), value)
    assert error(trip(find(name), weight) / value, weight / value) < 0.004


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge_weights_keep_the_bound(name, scale):
    weight = gaussian((128, 512), spread=1.0)
    assert error(trip(find(name), weight * scale) / scale, weight) <= find(name).error_bound


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1e-36, 1e-38, 1e-42])
def test_vanishing_weights_never_become_nan_or_grow(name, scale):
    got = trip(find(name), gaussian((16, 128), spread=scale))
    assert got.isfinite().all()
    assert got.abs().max() <= 10 * scale


@pytest.mark.parametrize("name", NAMES)
def test_an_outlier_spoils_only_its_row(name):
    weight = gaussian((64, 128))
    weight[3, 5] = 50.0
    got = trip(find(name), weight)
    assert abs(float(got[3, 5]) - 50.0) < 0.25
    if name != "nf4":  # a large absmax shifts the mean of all in its second level
        assert error(got[4:], weight[4:]) <= find(name).error_bound


# --- the libraries' own round trips


@settings(max_examples=25, deadline=None)
@given(shapes, dtypes, seeds)
def test_int8_is_the_library_bit_for_bit(shape, dtype, seed):
    weight = gaussian(shape, dtype, seed)
    codes, absmax, _ = bnb.int8_vectorwise_quant(weight)
    packed = Int8().pack(weight)
    assert equal_parts(packed, {"codes": codes, "absmax": absmax})
    assert torch.equal(Int8().unpack(packed, shape, FLOAT), bnb.int8_vectorwise_dequant(codes, absmax))


@settings(max_examples=25, deadline=None)
@given(shapes, seeds, st.sampled_from([1e-30, 1e-6, 1.0, 1e5, 1e30]))
def test_the_way_through_half_keeps_every_bit_of_a_bf16_weight(shape, seed, spread):
    """What a card does, on a kernel that takes only fp16: here the CPU's, with the same arithmetic."""
    weight = gaussian(shape, torch.bfloat16, seed, spread).float()
    codes, absmax, _ = bnb.int8_vectorwise_quant(weight)
    half_codes, half_absmax = int8_through_half(weight)
    assert torch.equal(half_codes, codes)
    assert torch.equal(half_absmax, absmax)


@settings(max_examples=25, deadline=None)
@given(shapes, dtypes, seeds, st.integers(1, 3000))
def test_nf4_is_the_library_bit_for_bit(shape, dtype, seed, elements):
    weight = gaussian(shape, dtype, seed)
    codes, state = bnb.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    packed = Nf4(slice_elements=elements).pack(weight)
    wanted = {
        "codes": codes,
        "absmax": state.absmax,
        "absmax_scale": state.state2.absmax,
        "absmax_mean": state.offset.reshape(1),
    }
    assert equal_parts(packed, wanted)
    assert torch.equal(Nf4().unpack(packed, shape, dtype), bnb.dequantize_4bit(codes, state))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nf4_is_the_library_over_many_slices_and_statistics(dtype):
    weight = gaussian((300, 5120), dtype)
    codes, state = bnb.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    assert torch.equal(trip(find("nf4"), weight, dtype), bnb.dequantize_4bit(codes, state))


def quanto_eight_bits(weight, qtype):
    scale = quanto.AbsmaxOptimizer()(weight, qtype, 0)
    return quanto.quantize_weight(weight, qtype, 0, scale, optimized=False).dequantize()


@settings(max_examples=25, deadline=None)
@given(shapes.filter(lambda shape: shape[0] > 1), dtypes, seeds)
def test_qint8_and_qfloat8_are_the_library_bit_for_bit(shape, dtype, seed):
    weight = gaussian(shape, dtype, seed)
    assert torch.equal(trip(find("qint8"), weight), quanto_eight_bits(weight.float(), quanto.qint8))
    assert torch.equal(trip(find("qfloat8"), weight), quanto_eight_bits(weight.float(), quanto.qfloat8))


@settings(max_examples=25, deadline=None)
@given(shapes.filter(lambda shape: shape[0] > 1), dtypes, seeds)
def test_qint4_is_the_library_bit_for_bit(shape, dtype, seed):
    weight, size = gaussian(shape, dtype, seed), group_size(shape[1])
    scale, shift = quanto.MaxOptimizer()(weight.float(), quanto.qint4, 0, size)
    scale, shift = scale.bfloat16().float(), shift.bfloat16().float()
    theirs = quanto.quantize_weight(weight.float(), quanto.qint4, 0, scale, shift, size, optimized=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackedTensor, "unpack", lambda p: torch.cat((p._data & 15, p._data >> 4))[: p.shape[0]])
        assert torch.equal(trip(find("qint4"), weight), theirs.dequantize())


# --- the stated bounds, from first principles

X = torch.linspace(-9, 9, 36001, dtype=torch.float64)


def density(x):
    return torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def within(x):
    """Probability that a standard Gaussian number lies within ±x."""
    return torch.erf(x / math.sqrt(2))


def largest(count):
    """The absmax of `count` Gaussian numbers: places and their probability density."""
    x = torch.linspace(1e-3, 9, 1500, dtype=torch.float64)
    return x, count * 2 * density(x) * within(x) ** (count - 1)


def theory_int8(columns):
    """Uniform rounding error, step²/12, with step = absmax / 127."""
    x, p = largest(columns)
    return math.sqrt(torch.trapezoid(x**2 * p, x) / 127**2 / 12)


def theory_nf4(code):
    """Nearest entry of the table for 63 Gaussian numbers cut at the absmax of their block; the 64th is exact."""
    u = torch.linspace(-1, 1, 8001, dtype=torch.float64)
    missed = (u - code[torch.bucketize(u, (code[1:] + code[:-1]) / 2)]) ** 2
    x, p = largest(64)
    given_x = torch.trapezoid(density(u * x[:, None]) * missed, u) * x**3 / within(x)
    return math.sqrt(torch.trapezoid(given_x * p, x) * 63 / 64)


def theory_qint4(group):
    """Uniform rounding error with step = range / 15; the density of the range is that of two order statistics."""
    x = X[::30]
    low, high = torch.meshgrid(x, x, indexing="ij")
    between = (torch.erf(high / math.sqrt(2)) - torch.erf(low / math.sqrt(2))).clamp(min=0) / 2
    p = group * (group - 1) * density(low) * density(high) * between ** (group - 2)
    square = torch.trapezoid(torch.trapezoid((high - low) ** 2 * p, x), x)
    return math.sqrt(square / 15**2 / 12)


def theory_floating(mantissa):
    """Uniform rounding error on the grid of each power of two; the worst place of σ between two of them."""
    x = X[X != 0].abs()
    steps = [2.0 ** (torch.floor(torch.log2(x * s)) - mantissa) / s for s in 2 ** torch.arange(0, 1, 1 / 8)]
    return max(math.sqrt(torch.trapezoid(density(x) * step**2 / 12, X[X != 0])) for step in steps)


@cache
def theories():
    table = bnb.get_4bit_type("nf4", "cpu").double()
    integers = theory_int8(WIDEST)
    return {
        "bf16": theory_floating(7),
        "int8": integers,
        "qint8": integers,
        "nf4": theory_nf4(table),
        "nf4-single": theory_nf4(table),
        "qint4": theory_qint4(128),
        "qfloat8": theory_floating(3),
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_bound_stands_a_little_above_the_theory(name):
    theory = theories()[name]
    assert theory < find(name).error_bound < 1.1 * theory


@pytest.mark.parametrize("name", NAMES)
def test_the_theory_is_what_is_measured(name):
    """At the width it was derived for, so that the bound rests on the right arithmetic."""
    assert error(trip(find(name), gaussian((64, WIDEST))), gaussian((64, WIDEST))) == pytest.approx(
        theories()[name], rel=0.03
    )


@settings(max_examples=40, deadline=None)
@given(names, st.integers(128, 400), st.integers(4, 40).map(lambda n: 64 * n), dtypes, seeds, st.integers(-20, 4))
def test_gaussian_weights_keep_the_bound(name, rows, columns, dtype, seed, power):
    spread = 1.0 if dtype == torch.float16 else 2.0**power  # fp16 loses small numbers before we see them
    weight = gaussian((rows, columns), dtype, seed, spread)
    assert error(trip(find(name), weight), weight) <= find(name).error_bound


# --- shapes, names, weight and haste


def test_groups_of_qint4_follow_one_rule():
    assert [group_size(columns) for columns in (5120, 13824, 128, 192, 320, 96, 32)] == [
        128,
        128,
        128,
        64,
        64,
        32,
        32,
    ]
    assert find("qint4").parts((7, 192))["scale"].shape == (7, 3)


@pytest.mark.parametrize(
    ("name", "shape", "why"),
    [
        ("nf4", (8, 96), "blocks of 64"),
        ("nf4-single", (8, 32), "blocks of 64"),
        ("qint4", (8, 48), "blocks of 32"),
        ("int8", (0, 48), "empty"),
        ("bf16", (8, 0), "empty"),
    ],
)
def test_a_shape_that_does_not_fit_says_why(name, shape, why):
    assert why in find(name).fits(shape)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(5120, 5120), (13824, 5120), (5120, 13824), (128, 128), (128, 192), (1, 64)])
def test_the_models_shapes_fit(name, shape):
    assert find(name).fits(shape) is None


@pytest.mark.parametrize(
    ("name", "bits"),
    [("bf16", 16), ("int8", 8.01), ("nf4", 4.13), ("nf4-single", 4.5), ("qint8", 8.01), ("qint4", 4.25)],
)
def test_sizes_are_known_without_data(name, bits):
    assert find(name).nbytes((13824, 5120)) * 8 / 13824 / 5120 == pytest.approx(bits, abs=0.005)


@pytest.mark.parametrize(
    ("name", "hint"), [("nf5", "did you mean 'nf4'?"), ("Int8", "'int8'?"), ("zzz", "(choose ")]
)
def test_an_unknown_scheme_names_the_nearest(name, hint):
    with pytest.raises(SettingsError) as caught:
        find(name)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def in_place():
    """The library's nf4 into given memory, which it has for CUDA alone, on a CPU, and as strict."""

    def into(codes, absmax, blocksize, quant_type, shape, dtype, out):
        assert out.shape == tuple(shape)
        assert out.dtype == dtype
        assert out.is_contiguous()
        call = torch.ops.bitsandbytes.dequantize_4bit.default
        out.copy_(call(codes, absmax, blocksize, quant_type, shape, dtype))

    library = torch.library.Library("bitsandbytes", "IMPL")
    library.impl("dequantize_4bit.out", into, "CPU")
    yield
    library._destroy()


@pytest.mark.usefixtures("in_place")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_card_unpacks_nf4_to_its_place(dtype):
    scheme, weight = Nf4Single(), torch.randn(9, 128)
    parts, out = scheme.pack(weight), torch.zeros(9, 128, dtype=dtype)
    for rows in (slice(0, 1), slice(1, 9)):
        nf4({name: part[rows] for name, part in parts.items()}, dtype, out[rows])
    assert torch.equal(out, scheme.unpack(parts, (9, 128), dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_card_unpacks_int8_to_its_place_in_one_rounding(dtype):
    scheme, weight = Int8(), torch.randn(9, 100)
    parts, out = scheme.pack(weight), torch.zeros(9, 100, dtype=dtype)
    int8_into(out, *scheme.coded(parts))
    exact = parts["codes"].double() * parts["absmax"].double()[:, None] / 127
    assert (out.double() - exact).abs().max() <= torch.finfo(dtype).eps * exact.abs().max()
    assert torch.allclose(out, scheme.unpack(parts, (9, 100), dtype), rtol=2 * torch.finfo(dtype).eps)


def test_planning_imports_no_quantizer_and_packing_no_code_generator():
    """That takes two seconds of every start, and what bitsandbytes would compile is not used."""
    code = (
        "import sys, torch; from holo_lite.schemes.registry import find\n"
        "find('nf4').nbytes((64, 64)), find('qint4').fits((1, 1))\n"
        "assert not {'bitsandbytes', 'optimum', 'optimum.quanto'} & set(sys.modules)\n"
        "compiler, weight = torch.compile, torch.ones(64, 128)\n"
        "for name in ('nf4', 'int8'):\n"
        "    scheme = find(name)\n"
        "    scheme.unpack(scheme.pack(weight), (64, 128), torch.bfloat16)\n"
        "assert 'bitsandbytes' in sys.modules\n"
        "assert not {'torch._inductor.compile_fx', 'torch._inductor.lowering'} & set(sys.modules)\n"
        "assert torch.compile is compiler"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def anonymous_bytes():
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc: run on Linux")
@pytest.mark.parametrize("name", NAMES)
def test_packing_the_largest_weight_takes_little_beside_its_result(name):
    scheme, weight = find(name), gaussian((1, 5120), torch.bfloat16).repeat(WIDEST, 1)
    scheme.pack(weight[:1])
    before, peak, done = anonymous_bytes(), [0], threading.Event()

    def watch():
        while not done.wait(0.002):
            peak[0] = max(peak[0], anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    packed = scheme.pack(weight)
    done.set()
    watcher.join()
    assert peak[0] - before - sum(part.nbytes for part in packed.values()) < 256 * 2**20


def test_a_scheme_that_is_known_by_name_is_there():
    assert tuple(SCHEMES) == ALL_NAMES
