"""Attention kernels: each computes the equation, is called as its package wants, and says where it is not right."""

import sys
import threading
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings, strategies as st
from kernel_packages import PACKAGES, shelf  # noqa: F401 - a fixture
from torch.utils._python_dispatch import TorchDispatchMode

from holo_lite.errors import SettingsError
from holo_lite.kernels.kernel import Kernel, KernelLimits, KernelPackage, Site
from holo_lite.kernels.registry import KERNELS, find, foresee
from holo_lite.kernels.trial import APPROXIMATE, PROMPT, REALISTIC, SMALL, KernelTrial, TrialResult, attempt, bound
from holo_lite.model import equations

CPU = torch.device("cpu")
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
NAMED = {kernel.name: kernel for kernel in KERNELS}
CARD = Site(CPU, BF16, 2, 64, (9, 0), "a card")
CARDS = ["cuda"] if torch.cuda.is_available() else []


def oracle(q, k, v):
    """softmax(q kᵀ / sqrt(D)) v, written out in fp64."""
    q, k, v = (rows.double().transpose(0, 1) for rows in (q, k, v))
    return ((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(0, 1)


def worst_row(found, q, k, v):
    """As a part of the length it would have if nothing cancelled: what rounding may leave does not cancel."""
    off = torch.linalg.vector_norm(found.double() - oracle(q, k, v), dim=-1)
    return float((off / torch.linalg.vector_norm(oracle(q, k, v.abs()), dim=-1)).max())


def rounding(dtype):
    """Weights and results are rounded once each; the sums of a row are in fp32."""
    return max(torch.finfo(dtype).eps, 4e-6)


@st.composite
def inputs(draw, head_dims, dtypes=(FP32, BF16)):
    """Rows as the runtime passes them: slices of longer buffers, or of a matrix that holds all three."""
    n, m, heads = (draw(st.integers(1, most)) for most in (40, 90, 3))
    head_dim, dtype = draw(st.sampled_from(head_dims)), draw(st.sampled_from(dtypes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        packed = torch.randn(max(n, m), 3, heads, head_dim, generator=generator).to(dtype)
        return packed[:n, 0], packed[:m, 1], packed[:m, 2]
    q, k, v = torch.randn(3, max(n, m) + 3, heads, head_dim, generator=generator).to(dtype)
    return q[2 : 2 + n], k[3 : 3 + m], v[3 : 3 + m]


# --- what they compute -----------------------------------------------------------------------------


@given(inputs((2, 8, 24, 64)))
@settings(max_examples=30, deadline=None)
def test_pytorchs_own_computes_the_equation(rows):
    found = NAMED["sdpa"].open()(*rows)
    assert worst_row(found, *rows) <= rounding(rows[0].dtype)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_called_as_they_want_and_change_nothing(shelf, package):  # noqa: F811
    """Layout, names, what comes back; and the shared rows of keys, which the next shot sees, too."""
    shelf.put(package)
    kernel = NAMED[package.split(",")[0]]
    assert kernel.refusal(CARD) is None
    attend = kernel.open()

    @given(inputs((64, 128)))
    @settings(max_examples=15, deadline=None)
    def holds(rows):
        before = [part.clone() for part in rows]
        found = attend(*rows)
        assert (found.shape, found.dtype) == (rows[0].shape, rows[0].dtype)
        assert worst_row(found, *rows) <= (rounding(rows[0].dtype) if kernel.exact else APPROXIMATE)
        assert all(torch.equal(part, old) for part, old in zip(rows, before, strict=True))

    holds()


@pytest.mark.parametrize("name", ["cudnn", "flash", "efficient"])
@pytest.mark.parametrize("dtype", [BF16, FP16])
def test_a_backends_operator_takes_what_it_is_given_and_keeps_rows_together(name, dtype):
    """On tensors without numbers: the operator's own account of what it returns."""
    q = torch.empty(70, 4, 128, dtype=dtype, device="meta")
    buffer = torch.empty(200, 4, 128, dtype=dtype, device="meta")
    out = NAMED[name].open()(q, buffer[:130], buffer[:130])
    assert (out.shape, out.dtype) == ((70, 4, 128), dtype)
    assert out.is_contiguous(), "or the layer's flatten would copy it"


class BySchema(TorchDispatchMode):
    """Computes what an operator of attention is asked for, by the arguments as PyTorch's own schema names them."""

    def __init__(self):
        super().__init__()
        self.called = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "_scaled_dot_product" not in func._schema.name:
            return func(*args, **(kwargs or {}))
        self.called.append(func._schema.name.removeprefix("aten::"))
        named = {argument.name: argument.default_value for argument in func._schema.arguments}
        named |= dict(zip(named, args, strict=False)) | (kwargs or {})
        q, k, v = (named.pop(name).double() for name in ("query", "key", "value"))
        scale = named.pop("scale")
        scores = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
        if named.pop("is_causal"):
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        if (bias := named.pop("attn_bias", None)) is not None:
            scores = scores + bias
        assert named.pop("dropout_p") == 0
        assert not named.pop("return_debug_mask", False)
        assert not named.pop("compute_log_sumexp", False), "nobody reads them"
        assert named == {}, "an argument that this knows nothing of"
        others = (torch.empty(0) if str(each.type) == "Tensor" else 0 for each in func._schema.returns[1:])
        return (scores.softmax(-1) @ v).to(args[0].dtype), *others


@pytest.mark.parametrize("name", ["cudnn", "flash", "efficient"])
@given(rows=inputs((64, 128), (BF16, FP16)))
@settings(max_examples=15, deadline=None)
def test_a_backends_operator_is_asked_for_the_equation(name, rows):
    """No CPU runs it, so what its arguments mean is computed in its place: no mask, no scale of its own."""
    with torch.no_grad(), BySchema() as seen:
        found = NAMED[name].open()(*rows)
    assert seen.called == [f"_scaled_dot_product_{name}_attention"]
    assert (found.shape, found.dtype) == (rows[0].shape, rows[0].dtype)
    assert worst_row(found, *rows) <= rounding(rows[0].dtype)


@pytest.mark.parametrize("name", ["cudnn", "flash", "efficient"])
def test_a_backend_that_cannot_compute_it_raises(name):
    q = torch.randn(4, 2, 16)
    with pytest.raises(NotImplementedError, match="CPU"):
        NAMED[name].open()(q, q, q)


def test_backends_touch_no_switch_that_another_thread_could_meet():
    """Half of the calls fail, which is where a switch would be left as it should not be."""
    switches = torch.nn.attention._cur_sdpa_kernel_backends
    before, seen, q = switches(), [], torch.randn(64, 2, 16)

    def use(name):
        for _ in range(50):
            try:
                NAMED[name].open()(q, q, q)
            except NotImplementedError:
                seen.append(switches())

    threads = [threading.Thread(target=use, args=(name,)) for name in ("flash", "cudnn", "efficient", "sdpa")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 150
    assert all(found == before for found in [*seen, switches()])


@pytest.mark.parametrize("device", CARDS)
@pytest.mark.parametrize("name", NAMED)
def test_on_this_card_what_is_usable_is_right(device, name):
    site = Site.of(torch.device(device), BF16, 40, 128)
    kernel = NAMED[name]
    if (refusal := kernel.refusal(site)) is not None:
        pytest.skip(refusal)
    found = attempt(kernel, *(KernelTrial.of(site, rows) for rows in (SMALL, REALISTIC, PROMPT)))
    assert isinstance(found, TrialResult), found
    assert found.error <= bound(kernel, BF16)


# --- where they are right --------------------------------------------------------------------------

ELSEWHERE = {
    ("sdpa", CPU, None, FP32, 63): None,
    ("cudnn", CPU, None, BF16, 64): "it runs on CUDA cards only",
    ("flash", CPU, (7, 5), FP16, 64): "it needs compute capability 8.0 and later, this card has 7.5",
    ("flash", CPU, (8, 6), FP32, 64): "it computes in bf16 or fp16, not fp32",
    ("flash", CPU, (8, 6), BF16, 60): "it takes heads of up to 256 numbers, multiples of 8, not 60",
    ("flash", CPU, (8, 6), BF16, 256): None,
    ("cudnn", CPU, (8, 6), BF16, 256): "it takes heads of up to 128 numbers, multiples of 8, not 256",
    ("efficient", CPU, (7, 5), FP32, 64): None,
    ("flash-attn-2", CPU, (8, 0), BF16, 64): "it needs the package flash-attn, which is not installed",
    (
        "flash-attn-3",
        CPU,
        (10, 0),
        BF16,
        64,
    ): "it needs compute capability 8.0 to 9.0, this card has 10.0",
    ("flash-attn-3", CPU, (9, 0), BF16, 64): "it needs the package flash_attn_3, which is not installed",
    ("flash-attn-4", CPU, (12, 0), BF16, 64): "it needs the package flash-attn-4, which is not installed",
    ("sage", CPU, (12, 0), BF16, 192): "it takes heads of up to 128 numbers, multiples of 8, not 192",
}


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize("case", ELSEWHERE, ids=lambda case: f"{case[0]} {case[2:]}")
def test_each_says_where_it_is_not_right(case):
    name, device, capability, dtype, head_dim = case
    assert NAMED[name].refusal(Site(device, dtype, 2, head_dim, capability)) == ELSEWHERE[case]


@pytest.mark.parametrize(
    ("put", "usable"),
    [
        (["flash-attn-2"], {"flash-attn-2"}),
        (["flash-attn-3"], {"flash-attn-3"}),
        (["flash-attn-4"], {"flash-attn-4"}),
        (["flash-attn-2", "flash-attn-4"], {"flash-attn-2", "flash-attn-4"}),
        (["sage"], {"sage"}),
    ],
)
@pytest.mark.parametrize("metadata", [True, False])
def test_packages_that_share_a_folder_are_told_apart_and_not_imported(shelf, put, usable, metadata):  # noqa: F811
    """flash-attn 2 and 4 are both `flash_attn`; one may lie on the path without any metadata."""
    for name in put:
        shelf.put(name)
    if not metadata:
        for file in shelf.folder.glob("*.dist-info/METADATA"):
            file.unlink()
            file.parent.rmdir()
    found = {kernel.name for kernel in KERNELS if kernel.package and kernel.refusal(CARD) is None}
    assert found == usable
    assert not {"flash_attn", "flash_attn_interface", "sageattention"} & {*sys.modules}


def cudnn_is(monkeypatch, version):
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: version)


@pytest.mark.parametrize(("version", "name"), [(90100, "9.1.0"), (91002, "9.10.2"), (91500, "9.15.0")])
def test_a_cudnn_that_reads_beyond_the_rows_is_neither_taken_nor_given(monkeypatch, version, name):
    """It may give the right result all the same, so that no trial finds it."""
    cudnn_is(monkeypatch, version)
    why = f"it needs cuDNN 9.15.1 or later; {name} reads out of bounds where a length is no multiple of 128"
    assert NAMED["cudnn"].refusal(CARD) == why
    with pytest.raises(SettingsError, match=f"kernel 'cudnn': {why}; here you can use auto, sdpa, flash, eff"):
        find("cudnn", CARD)
    assert foresee("cudnn", CARD).name == "cudnn", "on another machine it may be another cuDNN"


@pytest.mark.parametrize(
    ("version", "refusal"),
    [(91501, None), (92000, None), (None, "it needs cuDNN, which this build of PyTorch lacks")],
)
def test_a_cudnn_that_stays_within_the_rows_is_taken(monkeypatch, version, refusal):
    cudnn_is(monkeypatch, version)
    assert NAMED["cudnn"].refusal(CARD) == refusal


@pytest.mark.parametrize("name", ["flsh", "sdp", "", "flash-attn-5"])
@pytest.mark.usefixtures("shelf")
def test_an_unknown_name_is_told_with_what_is_usable(monkeypatch, name):
    cudnn_is(monkeypatch, 92000)
    with pytest.raises(SettingsError) as caught:
        find(name, CARD)
    said = str(caught.value)
    assert said.startswith(f"kernel '{name}': unknown; ")
    assert "here you can use auto, sdpa, cudnn, flash, efficient" in said
    assert ("; did you mean '" in said) == bool(name)


def test_only_sage_is_approximate():
    assert [kernel.name for kernel in KERNELS if not kernel.exact] == ["sage"]
    assert KERNELS[0].name == "sdpa", "which is first among equals"


# --- how they are tried ----------------------------------------------------------------------------


def broken(change, exact=True):
    return Kernel("broken", lambda: change, exact=exact)


def causal(q, k, v):
    q, k, v = (rows.transpose(0, 1) for rows in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1)


def one_wrong_row(q, k, v):
    out = equations.attention(q, k, v).clone()
    out[-1, -1] = 0
    return out


def writes(q, k, v):
    out = equations.attention(q, k, v)
    k -= k.mean(0)
    return out


def raises(*_):
    raise AssertionError("only cards with a tail" + "!" * 200 + "\nand more")


FAULTS = {
    "another scale": (lambda q, k, v: equations.attention(q * 1.1, k, v), "it gives wrong results here"),
    "a mask": (causal, "it gives wrong results here"),
    "one row": (one_wrong_row, "a row is 1 of its length off, rounding explains 0.016"),
    "not a number": (lambda q, k, v: equations.attention(q, k, v) * torch.nan, "a row is nan of its length off"),
    "heads first": (lambda q, k, v: equations.attention(q, k, v).transpose(0, 1), "its result has the shape"),
    "8 bits": (lambda q, k, v: equations.attention(q, k, v).to(torch.float8_e4m3fn), "it gives wrong results"),
    "its inputs": (writes, "ValueError: it changes its input"),
    "an error": (raises, "AssertionError: only cards with a tail!!"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_trial_finds(fault):
    change, said = FAULTS[fault]
    found = attempt(broken(change), KernelTrial.of(CARD, (60, 150)))
    assert isinstance(found, str)
    assert said in found
    assert len(found.splitlines()) == 1
    assert len(found) < 160


@given(inputs((16, 64, 128), (BF16, FP16, FP32)))
@settings(max_examples=15, deadline=None)
def test_rounding_alone_fails_no_trial(rows):
    q, k, v = rows
    trial = KernelTrial(q, k, v, oracle(q, k, v).float())
    assert trial.error(equations.attention) <= bound(NAMED["sdpa"], q.dtype)


def test_eight_bits_are_no_rounding_and_garbage_is_not_eight_bits(shelf):  # noqa: F811
    shelf.put("sage")
    trial = KernelTrial.of(CARD, SMALL)
    found = attempt(NAMED["sage"], trial)
    assert isinstance(found, TrialResult)
    assert bound(NAMED["sdpa"], BF16) < found.error < APPROXIMATE
    assert isinstance(attempt(broken(NAMED["sage"].open()), trial), str), "were it called exact"
    assert isinstance(attempt(broken(causal, exact=False), trial), str)


@pytest.mark.parametrize("error", [ImportError("libcudart.so.12: no such file"), OSError("torn"), KeyError("x")])
def test_a_package_that_does_not_come_in_is_a_reason(error):
    def load():
        raise error

    found = attempt(
        Kernel("torn", load, KernelLimits(), KernelPackage("torn", "torn")), KernelTrial.of(CARD, (4, 4))
    )
    assert isinstance(found, str)
    assert found.startswith(type(error).__name__)


def test_no_memory_is_no_reason():
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        attempt(broken(full), KernelTrial.of(CARD, (4, 4)))


def test_a_trial_leaves_the_random_numbers_alone_and_is_the_same_every_time():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = KernelTrial.of(CARD, (8, 16)), KernelTrial.of(CARD, (8, 16))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.q, second.q)
    assert (first.q.shape, first.k.shape, first.v.shape) == ((8, 2, 64), (16, 2, 64), (16, 2, 64))
    assert worst_row(first.expected, first.q, first.k, first.v) < rounding(FP32)


def test_a_card_is_asked_what_it_is():
    assert Site.of(CPU, FP32, 3, 8) == Site(CPU, FP32, 3, 8, None, "")
    with (
        patch("torch.cuda.get_device_capability", return_value=(8, 9)),
        patch("torch.cuda.get_device_name", return_value="NVIDIA GeForce RTX 4090"),
    ):
        site = Site.of(torch.device("cuda:1"), BF16, 40, 128)
    assert (site.capability, site.card) == ((8, 9), "NVIDIA GeForce RTX 4090")
