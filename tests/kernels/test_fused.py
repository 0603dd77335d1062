"""Fused operations: the kernels compute what the equations say, what they cost, and when they are used.

The kernels for a card run here too, where Triton is installed: by its interpreter, in a process of its own, and
through its compiler for the cards that are meant. Both need no card.
"""

from dataclasses import fields

import pytest
import torch
from own_process import own_process
from small_model import config_of

from holo_lite.config import HOLOCINE_14B
from holo_lite.eightbit.coding import has_triton
from holo_lite.eightbit.limits import coded
from holo_lite.eightbit.rows import FP8, INT8, Rows
from holo_lite.errors import SettingsError
from holo_lite.kernels import fused
from holo_lite.kernels.fused import TrialInputs, first_wrong, fused_ops, pick_ops, trial
from holo_lite.kernels.fused_traffic import NOTHING, TRAFFIC, Traffic
from holo_lite.model import equations
from holo_lite.model.operations import Norm, Ops
from holo_lite.model.positions import Positions
from holo_lite.story.shots import ShotLayout

CPU, CUDA, BF16, FP32 = torch.device("cpu"), torch.device("cuda"), torch.bfloat16, torch.float32
CARD = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card: run on one")
TRITON = pytest.mark.skipif(not has_triton(), reason="needs Triton: pip install triton")
NAMES = [field.name for field in fields(Ops)]


# --- the kernels -----------------------------------------------------------------------------------


@TRITON
def test_the_kernels_and_a_whole_forward_compute_what_the_equations_do():
    own_process("fused_interpreted.py", TRITON_INTERPRET="1")


@TRITON
def test_the_kernels_compile_for_the_cards_that_are_meant(tmp_path):
    own_process("fused_compiled.py", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))


def test_gelu_in_the_products_epilogue_is_called_as_the_operator_takes_it():
    """On a CPU it is GELU by erf, so it is not taken there: that its other arguments are right shows here."""
    x, weight, bias = torch.randn(5, 8), torch.randn(12, 8), torch.randn(12)
    found = torch.ops.aten._addmm_activation(bias, x, weight.t(), use_gelu=True)
    assert torch.allclose(found, torch.nn.functional.gelu(x @ weight.T + bias), atol=1e-5)
    taken = torch.ops.aten._addmm_activation.default._schema.arguments
    assert [one.name for one in taken] == ["self", "mat1", "mat2", "beta", "alpha", "use_gelu"]


# --- what they cost --------------------------------------------------------------------------------


def test_every_operation_has_its_cost():
    assert list(TRAFFIC) == NAMES


def test_a_cost_is_one_pass_over_the_rows():
    rows, d, f = 7, 64, 96
    x, wide = torch.empty(rows, d, dtype=BF16, device="meta"), torch.empty(rows, f, dtype=BF16, device="meta")
    one, numbers, vector = torch.empty(d, dtype=BF16, device="meta"), rows * d * 2, d * 2
    positions = Positions.of(ShotLayout((0,), 2, 2, 3), 16, torch.device("meta"))
    tables = 2 * 4 * (2 * 4 + 2 * 2 + 3 * 2)
    form, small = INT8, coded(rows, d)
    rowed = Rows.empty(rows, f, INT8, dtype=BF16, device=torch.device("meta"))
    weight = Rows.empty(d, f, INT8, dtype=BF16, device=torch.device("meta"))
    found = {name: TRAFFIC[name] for name in NAMES}
    assert found["modulate"](x, one, one, 1e-6, None) == Traffic(1, numbers + 2 * vector, numbers)
    assert found["modulate"](x, one, one, 1e-6, form) == Traffic(1, numbers + 2 * vector, small)
    assert found["modulate"](x, one, one, 1e-6, None, x) == Traffic(1, numbers + 2 * vector, numbers)
    assert found["layer_norm"](x, one, one, 1e-6, form) == Traffic(1, numbers + 2 * vector, small)
    assert found["norm_"](x, one, 1e-6) == Traffic(1, numbers + vector, numbers)
    assert found["norm_turn_"](x, one, 1e-6, positions, slice(0, 7)) == Traffic(
        1, numbers + vector + tables, numbers
    )
    assert found["gated_add_"](x, x, one) == Traffic(1, 2 * numbers + vector, numbers)
    assert found["gated_add_"](x, x, None) == Traffic(1, 2 * numbers, numbers)
    assert found["gelu_"](wide, form) == Traffic(1, rows * f * 2, coded(rows, f))
    assert found["quantize"](x, form) == Traffic(1, numbers, small)
    assert found["linear_gelu"](x, x, one) == found["multiply"](rowed, weight, one, None) == NOTHING
    assert found["multiply_add_"](x, rowed, weight, one, one) == Traffic(0, numbers + vector, 0)
    in_fp8 = Rows.empty(rows, f, FP8, dtype=BF16, device=torch.device("meta"))
    assert found["multiply_add_"](x, in_fp8, weight, one, one) == Traffic(1, 2 * numbers + vector, numbers)
    norm, place = Norm(one, one, 1e-6, 1.0), Rows.empty(rows, d, FP8, dtype=BF16, device=torch.device("meta"))
    normed = found["multiply_add_norm_"]
    # in one pass where PyTorch has multiplied; else the product adds, and the norm reads the stream once more
    assert normed(x, in_fp8, weight, one, one, norm, place) == Traffic(1, 2 * numbers + 3 * vector, numbers + small)
    assert normed(x, rowed, weight, one, None, norm, place) == Traffic(1, 2 * numbers + 2 * vector, small)


# --- when they are used ----------------------------------------------------------------------------


class BrokenError(Exception):
    """What a compiler might raise."""


def broken_ops():
    def raises(*_):
        raise BrokenError("no compiler\n  found")

    return Ops(modulate=raises)


@pytest.fixture
def anywhere(monkeypatch):
    """Fused operations need no card, and are the plain ones, or what a test makes of them."""

    def become(ops):
        monkeypatch.setattr(fused, "fused_ops", lambda: ops)
        monkeypatch.setattr(fused, "_missing", lambda _: None)
        monkeypatch.setattr(fused, "HOLOCINE_14B", config_of(16, 2))

    return become


def test_a_cpu_fuses_nothing():
    reason = "the kernels run on CUDA cards only"
    assert pick_ops("auto", CPU) == (Ops(), "off", f"fuse off: {reason}")
    assert pick_ops("off", CPU) == (Ops(), "off", "fuse off: as asked")
    with pytest.raises(SettingsError, match=f"fuse 'on': {reason}; give --fuse off"):
        pick_ops("on", CPU)


def test_a_card_without_triton_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(fused, "has_triton", lambda: False)
    _, kind, why = pick_ops("auto", CUDA)
    assert (kind, why) == ("off", "fuse off: it needs Triton, which is not installed; pip install triton")


@pytest.mark.parametrize(
    ("said", "why"), [("on", "as asked"), ("auto", "norms, rotations and sums take one pass each")]
)
def test_they_are_used_where_a_trial_agrees(anywhere, said, why):
    anywhere(Ops())
    assert pick_ops(said, CPU) == (Ops(), "on", f"fuse on: {why}")


def twice(*given):
    return 2 * equations.rms_norm_(*given)


@pytest.mark.parametrize(
    ("ops", "says"),
    [
        (broken_ops(), "the kernels do not run here (no compiler found)"),
        (Ops(norm_=twice), "the kernel of norm gives wrong results here: they are 1 off"),
    ],
)
def test_what_does_not_work_is_said_on_one_line(anywhere, ops, says):
    anywhere(ops)
    with pytest.raises(SettingsError) as raised:
        pick_ops("on", CPU)
    assert str(raised.value) == f"fuse 'on': {says}; give --fuse off"
    assert pick_ops("auto", CPU) == (Ops(), "off", f"fuse off: {says}")


def spoilt(name):
    """A function whose result is a little off, or whose last row is: a tenth of one row of five."""
    plain = getattr(Ops(), name)

    def off(*given):
        found = plain(*given)
        if isinstance(found, Rows):
            found.scale[-1] *= 1.2
        else:
            found[-1] *= 1.2
        return found

    return off


@pytest.mark.parametrize("form", [INT8, FP8], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_each_operation_is_tried_in_the_form_it_is_used_in(name, form):
    inputs = TrialInputs(5, CPU, FP32, 96, 4)
    assert first_wrong(Ops(), inputs, form) is None
    assert f"the kernel of {name.rstrip('_')} gives" in first_wrong(Ops(**{name: spoilt(name)}), inputs, form)


@pytest.mark.parametrize("name", ["quantize", "multiply", "multiply_add_", "multiply_add_norm_"])
def test_8_bits_that_are_not_used_are_not_tried(name):
    assert first_wrong(Ops(**{name: spoilt(name)}), TrialInputs(5, CPU, FP32, 96, 4), None) is None


def test_other_words_are_refused():
    with pytest.raises(SettingsError, match="fuse 'of': give one of auto, on, off; did you mean 'off'"):
        pick_ops("of", CPU)


@CARD
@pytest.mark.parametrize("form", [None, INT8, FP8], ids=str)
def test_a_card_fuses_and_agrees(form):
    if form == FP8 and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this card has no fp8: run on a later one")
    ops, kind, why = pick_ops("on", CUDA)
    assert kind == "on", why
    assert ops == fused_ops()
    assert trial(CUDA, BF16, HOLOCINE_14B.dim, HOLOCINE_14B.num_heads, form) is None
