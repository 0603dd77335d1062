"""Fused operations: what they compute, how often they are compiled, and what they allocate.

Compiling is real, by the C++ compiler that PyTorch finds, and takes seconds: it is done once for all tests here.
"""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from small_model import config_of, random_model
from torch._dynamo.utils import counters

from holo_lite.eightbit.product import off
from holo_lite.errors import SettingsError
from holo_lite.kernels import fused
from holo_lite.kernels.fused import FusedOps, fused_ops, pick_ops, trial
from holo_lite.model import equations
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.compute import PLAIN, Compute, Ops
from holo_lite.model.layers import TextRows
from holo_lite.story.shots import ShotLayout

CPU, BF16, FP32 = torch.device("cpu"), torch.bfloat16, torch.float32
CARD = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card: run on one")
HEAD, HEADS = 16, 2
DIM = HEAD * HEADS
NAMES = ("modulate", "norm", "norm_turn", "gated_add_")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The operations, compiled for five tokens of DIM numbers in bf16, and how many graphs that took."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        before, ops = graphs(), fused_ops()
        reason = trial(ops, CPU, BF16, DIM, HEADS)
        if reason is not None and "compiler" in reason:
            pytest.skip(reason)
        assert reason is None
        yield ops, graphs() - before


def graphs():
    """How many graphs have been compiled in this process."""
    return counters["stats"]["unique_graphs"]


def test_each_operation_is_one_graph(compiled):
    assert compiled[1] == len(NAMES)


@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(1, 300), seed=st.integers(0, 99), name=st.sampled_from(NAMES), own=st.booleans())
def test_any_number_of_tokens_is_the_plain_result_and_compiles_nothing(compiled, tokens, seed, name, own):
    """As in a run, in inference mode; what was made in it, or outside it, or is a parameter, is all the same."""
    ops, _ = compiled
    with torch.inference_mode(mode=own):
        rows, *rest = (
            one[:tokens] if torch.is_tensor(one) and one.shape[0] == tokens + 500 else one
            for one in fused._arguments(tokens + 500, CPU, BF16, DIM, HEADS, seed)[name]
        )
        again = rows.clone()
    rest = [torch.nn.Parameter(one, False) if torch.is_tensor(one) and one.ndim == 1 else one for one in rest]
    before = graphs()
    with torch.inference_mode():
        found, expected = getattr(ops, name)(rows, *rest), getattr(Ops(), name)(again, *rest)
    assert graphs() == before
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert off(found, expected) < 2**-7


def test_the_gated_sum_is_written_where_the_stream_lies(compiled):
    ops, _ = compiled
    with torch.inference_mode():
        stream = torch.zeros(9, DIM, dtype=BF16)
        ops.gated_add_(stream[2:7], torch.ones(DIM, dtype=BF16), torch.ones(5, DIM, dtype=BF16))
    assert stream.sum(dim=1).tolist() == [0, 0, *[DIM] * 5, 0, 0]


def test_modulation_leaves_its_input_alone(compiled):
    ops, _ = compiled
    with torch.inference_mode():
        x, shift, scale, eps = fused._arguments(4, CPU, BF16, DIM, HEADS)["modulate"]
        before = x.clone()
        ops.modulate(x, shift, scale, eps)
    assert torch.equal(x, before)


def test_a_model_runs_on_the_same_graphs_in_every_chunk(compiled):
    """Odd chunks, a ragged last one, shots of one frame, blocks whose weights came at different times."""
    ops, _ = compiled
    model = random_model(config_of(HEAD, HEADS, 2, 80), dtype=BF16)
    with torch.inference_mode():
        for name, weight in list(model.blocks[1].named_parameters()):
            owner, _, leaf = name.rpartition(".")
            model.blocks[1].get_submodule(owner)._parameters[leaf] = torch.nn.Parameter(weight.clone(), False)
    clip = Clip(ShotLayout((0, 3, 4), 6, 3, 4), "sparse", Chunks(7, 5))
    before = graphs()
    assert off(forward(model, clip, Compute(ops=ops)), forward(model, clip, PLAIN)) < 0.02
    assert graphs() == before


def forward(model, clip, compute):
    generator = torch.Generator().manual_seed(0)
    latents, rows = torch.randn(16, 6, 6, 8, generator=generator), torch.randn(20, 24, generator=generator)
    model.compute = compute
    with torch.inference_mode():
        text = TextRows(model.embed_text(rows), tuple(torch.arange(3 + shot) for shot in range(3)))
        return model(latents, torch.tensor(600.0), [text], clip)[0]


def test_what_the_compiler_would_fix_is_an_error_and_no_second_graph():
    """The number of tokens in a branch makes the compiler want one graph for each."""

    def branches(x):
        return x + 1 if x.shape[0] == 4 else x - 1

    function = FusedOps.of(branches, branches, (0,))
    with pytest.raises(Exception, match="onstraint"), torch.inference_mode():
        function(torch.zeros(4, 3))


def test_the_limit_of_recompilations_is_an_error_and_no_silent_fallback(compiled):
    ops, _ = compiled
    wider = torch.zeros(3, DIM + 2, dtype=BF16)
    with (
        torch._dynamo.config.patch(recompile_limit=1),
        torch.inference_mode(),
        pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit),
    ):
        ops.gated_add_(wider, wider[0], wider)


def test_other_models_do_not_count_towards_the_limit(compiled):
    """The same function prepared again has compiled nothing yet."""
    ours, theirs = (each.gated_add_.compiled for each in (compiled[0], fused_ops()))
    assert ours._torchdynamo_orig_callable.__code__ is not theirs._torchdynamo_orig_callable.__code__


def test_a_break_in_the_graph_is_an_error():
    def breaks(x):
        torch._dynamo.graph_break()
        return x + 1

    with pytest.raises(torch._dynamo.exc.Unsupported), torch.inference_mode():
        FusedOps.of(breaks, breaks, (0,))(torch.zeros(4, 3))


# --- what a person says ----------------------------------------------------------------------------


class BrokenError(Exception):
    """What a compiler might raise."""


def broken_ops(said):
    def raises(*_):
        raise BrokenError(said)

    return Ops(modulate=raises)


def test_a_cpu_fuses_nothing_unasked():
    ops, kind, why = pick_ops("auto", CPU)
    assert (ops, kind) == (Ops(), "off")
    assert why == "fuse off: on a CPU compiling takes longer than it saves"
    assert pick_ops("off", CPU) == (Ops(), "off", "fuse off: as asked")


def test_on_is_on_where_a_trial_agrees(monkeypatch):
    monkeypatch.setattr(fused, "fused_ops", Ops)
    assert pick_ops("on", CPU) == (Ops(), "on", "fuse on: as asked")


@pytest.mark.parametrize(
    "make", [lambda: broken_ops("no compiler\n  found"), lambda: Ops(norm=equations_norm_twice)]
)
def test_what_does_not_work_is_said_on_one_line(monkeypatch, make):
    monkeypatch.setattr(fused, "fused_ops", make)
    with pytest.raises(SettingsError) as raised:
        pick_ops("on", CPU)
    said = str(raised.value)
    assert "no compiler found" in said or "they are 1 off" in said
    assert said.startswith("fuse 'on': torch.compile ")
    assert said.endswith("; give --fuse off")
    assert "\n" not in said


def equations_norm_twice(*given):
    return 2 * equations.rms_norm_(*given)


def test_auto_says_why_not(monkeypatch):
    monkeypatch.setattr(fused, "trial", lambda *_: "torch.compile does not work here (no compiler)")
    monkeypatch.setattr(fused, "fused_ops", Ops)
    ops, kind, why = pick_ops("auto", torch.device("cuda"))
    assert (ops, kind, why) == (Ops(), "off", "fuse off: torch.compile does not work here (no compiler)")


def test_other_words_are_refused():
    with pytest.raises(SettingsError, match="fuse 'of': give one of auto, on, off; did you mean 'off'"):
        pick_ops("of", CPU)


@CARD
def test_a_card_fuses_and_agrees():
    ops, kind, why = pick_ops("on", torch.device("cuda"))
    assert kind == "on", why
    assert trial(ops, torch.device("cuda"), BF16, 5120, 40) is None
