"""The speed benchmark: comparators compute what we compute, the floor lists what we run, verdicts are sound."""

import copy
import json
import os
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import click
import psutil
import pytest
import torch
from diffusers import WanTransformer3DModel
from guard import wait_until
from hypothesis import given, settings, strategies as st
from small_model import TEXT_DIM, clips, config_of, layouts, random_model, window_sets
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import ROOT, resumable
from benchmarks.resumable import Result, Runner, ended_within
from benchmarks.speed import (
    command as speed,
    diffusers as speed_diffusers,
    floor as speed_floor,
    products as speed_products,
    reference as speed_reference,
    scale as speed_scale,
)
from benchmarks.speed.cases import Bench, attempted
from benchmarks.speed.compare import compare
from benchmarks.speed.products import Shape, a_token
from benchmarks.speed.scale import Inputs, Prompt, Scale, runnable_layers, windows_of
from benchmarks.speed.targets import JUDGED, table, verdicts
from benchmarks.timing import Repeats
from holo_lite.config import HOLOCINE_14B, DiTConfig
from holo_lite.errors import SettingsError
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.compute import Compute
from holo_lite.model.dit import WanDiT
from holo_lite.model.equations import attention
from holo_lite.model.layers import TextRows
from holo_lite.plan.cost import attended_pairs, forward_operations
from holo_lite.story.shots import ShotLayout
from holo_lite.streaming.lane import PinError
from holo_lite.weights.names import own_names

CPU = torch.device("cpu")
ROWS = 20
TIMESTEP = torch.tensor(903.7)


def inputs(clip, windows, seed=1):
    """Two branches: the first sees windows of its text, the second all of it."""
    generator = torch.Generator().manual_seed(seed)
    shape = (16, clip.layout.latent_frames, 2 * clip.layout.rows, 2 * clip.layout.columns)
    rows = [torch.randn(ROWS, TEXT_DIM, generator=generator) for _ in range(2)]
    seen = None if windows is None else tuple(torch.tensor(each) for each in windows)
    prompts = (Prompt(rows[0], seen), Prompt(rows[1], None))
    return Inputs(clip, torch.randn(shape, generator=generator), TIMESTEP, prompts)


def ours(model, given):
    texts = [TextRows(model.embed_text(prompt.rows), prompt.windows) for prompt in given.prompts]
    with torch.inference_mode():
        return model(given.latents, given.timestep, texts, given.clip)


def error(found, expected):
    return float((found.float() - expected.float()).norm() / expected.float().norm())


# --- the comparators compute what we compute -------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(layout=layouts(), data=st.data(), head_dim=st.sampled_from([8, 16, 22]))
def test_the_references_way_is_the_same_function(layout, data, head_dim):
    model, clip = random_model(config_of(head_dim)), Clip(layout, "sparse", Chunks(17, 23))
    given = inputs(clip, data.draw(window_sets(layout.shots, ROWS)))
    with torch.inference_mode():
        theirs = speed_reference.step(model, given, attention)
    assert all(error(a, b) < 1e-5 for a, b in zip(theirs, ours(model, given), strict=True))


def test_the_references_way_rounds_as_bf16_does():
    model = random_model(config_of(), dtype=torch.bfloat16)
    given = inputs(Clip(ShotLayout((0, 2, 3), 6, 3, 4)), None)
    with torch.inference_mode():
        theirs = speed_reference.step(model, given, attention)
    assert all(error(a, b) < 0.03 for a, b in zip(theirs, ours(model, given), strict=True))


def test_the_references_way_has_every_copy_it_is_known_for():
    """Complex numbers of 128 bits for all tokens, keys of every shot packed, a mask of all tokens by all rows."""
    layout = ShotLayout((0, 2, 3), 6, 3, 4)
    given, seen = inputs(Clip(layout), [[0, 1], [2], [3, 4]]), set()

    class Tensors(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                seen.add((result.dtype, tuple(result.shape)))
            return result

    with torch.inference_mode(), Tensors():
        speed_reference.step(random_model(config_of()), given, attention)
    tokens = layout.tokens
    assert (torch.complex128, (tokens, 2, 8)) in seen
    assert (torch.float32, (tokens + 3 * 3 * layout.frame_tokens, 2, 16)) in seen
    assert (torch.bool, (tokens, ROWS)) in seen


@pytest.mark.parametrize("offload", [False, True])
def test_diffusers_computes_our_full_attention_without_windows(offload):
    config, layout = config_of(head_dim=16), ShotLayout((0, 2, 3), 5, 3, 4)
    theirs = speed_diffusers.build(config, CPU, torch.float32, speed_diffusers.Way(offload=offload))
    with torch.device("meta"):
        model = WanDiT(config)
    own = own_names(theirs.state_dict())
    model.load_state_dict({own[name]: tensor for name, tensor in theirs.state_dict().items()}, assign=True)
    given = inputs(Clip(layout, "full", Chunks(17, 23)), None)
    found = speed_diffusers.step(theirs, given)
    assert all(error(a, b) < 2e-5 for a, b in zip(found, ours(model, given), strict=True))


def test_diffusers_gets_the_dtypes_that_it_gives_itself(tmp_path):
    config = config_of(layers=1)
    speed_diffusers.build(config, CPU, torch.float32, speed_diffusers.Way()).save_pretrained(tmp_path)
    loaded = WanTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    built = speed_diffusers.build(config, CPU, torch.bfloat16, speed_diffusers.Way())
    assert {name: each.dtype for name, each in built.named_parameters()} == {
        name: each.dtype for name, each in loaded.named_parameters()
    }
    assert {each.dtype for each in built.parameters()} == {torch.bfloat16, torch.float32}
    assert torch.equal(built.rope.freqs_cos, loaded.rope.freqs_cos)


@pytest.mark.parametrize("offload", [False, True])
def test_diffusers_in_nf4_packs_every_linear_layer_it_would_pack_itself(offload):
    config = DiTConfig(128, 2, 256, 1, text_dim=64, freq_dim=64)
    model = speed_diffusers.build(config, CPU, torch.float32, speed_diffusers.Way("nf4", offload=offload))
    kinds = {name: type(each).__name__ for name, each in model.named_modules() if "Linear" in type(each).__name__}
    plain = {name for name, kind in kinds.items() if kind == "Linear"}
    assert plain == {f"condition_embedder.time_embedder.linear_{index}" for index in (1, 2)}
    assert model.blocks[0].ffn.net[2].weight.dtype == torch.uint8
    scale = Scale(True, config, 1, 32, 32, torch.float32)
    assert all(each.isfinite().all() for each in speed_diffusers.step(model, Inputs.of(scale, 33, CPU)))


# --- the floor lists what we run -------------------------------------------------------------------


def listed(config, clip, windows):
    return speed_floor.gemms(config, clip, windows), speed_floor.attentions(config, clip, windows)


@settings(max_examples=40, deadline=None)
@given(clip=clips())
def test_the_floors_list_is_the_forwards_operations_to_the_last(clip):
    config = config_of()
    gemms, attentions = listed(config, clip, [None])
    expected = forward_operations(config, clip.layout, clip.attention)
    assert sum(each.operations for each in gemms) == expected.linear
    assert sum(each.operations for each in attentions) == expected.attention


def test_windows_and_a_second_branch_are_counted_as_they_are():
    config, clip = HOLOCINE_14B, Clip(ShotLayout.from_frames(241, (49, 97, 145, 193), 480, 832))
    windows = windows_of(clip.layout.shots)
    seen = sum(len(clip.layout.token_span(shot)) * len(rows) for shot, rows in enumerate(windows))
    _, attentions = listed(config, clip, [windows, None])
    pairs = 2 * attended_pairs(clip.layout, "sparse") + seen + clip.layout.tokens * 512
    assert sum(each.operations for each in attentions) == config.num_layers * 4 * config.dim * pairs
    gemms, _ = listed(config, clip, [windows, None])
    once = [each for each in gemms if each.name.startswith(("patches", "time"))]  # for both branches
    twice = 2 * forward_operations(config, clip.layout, "sparse").linear
    assert sum(each.operations for each in [*gemms, *once]) == twice


@settings(max_examples=10, deadline=None)
@given(clip=clips(), data=st.data())
def test_the_floor_lists_every_call_that_a_forward_makes(clip, data):
    """Rows, widths and how often: what is timed alone is what is run."""
    config = config_of()
    windows = data.draw(window_sets(clip.layout.shots, 512))
    given, seen, attended = inputs(clip, windows), Counter(), Counter()
    model = random_model(config)

    def attend(q, k, v):
        attended[len(q), len(k)] += 1
        return attention(q, k, v)

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.linear.default:
                x, weight, _ = args
                seen[x.numel() // x.shape[-1], *reversed(weight.shape)] += 1
            elif func is torch.ops.aten.addmm.out:  # keys and values, written into their buffer
                _, x, turned = args
                seen[len(x), *turned.shape] += 1
            return func(*args, **(kwargs or {}))

    model.compute = Compute(attend)
    texts = [
        TextRows(torch.randn(512, config.dim), given.prompts[0].windows),
        TextRows(torch.randn(512, config.dim)),
    ]
    with torch.inference_mode(), Products():
        model(given.latents, given.timestep, texts, clip)
    gemms, attentions = listed(config, clip, [windows, None])
    assert counted((rows, each.keys, each.times) for each in attentions for rows in each.queries) == attended
    products = ((rows, each.inputs, each.outputs, each.times) for each in gemms for rows in each.rows)
    assert counted(products) == seen


def counted(entries):
    """How often each comes, the last of an entry being how often it does so at once."""
    found = Counter()
    for *key, times in entries:
        found[tuple(key)] += times
    return found


class MadeUp(speed_floor.Stopwatch):
    """A second a call and a thousandth a row; the kernel `slow` takes twice as long, and 3000 rows spill."""

    def gemm(self, rows, *_):
        return [1 + rows / 1000, 2 + rows / 1000, 3 + rows / 1000 + (100 if rows > 3000 else 0)]

    def attention(self, kernel, queries, *_):
        return [(2 if kernel == "slow" else 1) * (10 if queries > 3000 else 1) * queries / 1000] * 3


def test_the_floor_takes_the_best_portions_and_the_best_kernel():
    watch = MadeUp(CPU, torch.float32, 2, {"slow": attention, "fast": attention})
    gemm = speed_floor.Gemm("g", (1000, 1000), 8, 8, 3)
    attended = speed_floor.Attention("a", (3000, 3000), 7, 8, 2)
    found = speed_floor.floor([gemm, attended], watch)
    whole, parted = [3 * (call + 2) for call in (1, 2, 3)], [2 * 6.0] * 3
    assert found["seconds"] == [a + b for a, b in zip(whole, parted, strict=True)]
    assert [piece["how"] for piece in found["pieces"]] == ["whole", "fast, as run"]
    assert found["pieces"][0]["operations_a_second"] == gemm.operations / (3 * 4)


def test_what_does_not_run_at_one_size_is_no_way_and_what_runs_at_none_is_said():
    def picky(q, k, v):
        if len(q) > 4:
            raise RuntimeError("too many rows")
        return attention(q, k, v)

    watch = speed_floor.Stopwatch(CPU, torch.float32, 2, {"picky": picky})
    pieces = [speed_floor.Attention("a", (4, 4), 6, 8, 1), speed_floor.Attention("b", (5, 5), 6, 8, 1)]
    assert speed_floor.floor(pieces[:1], watch)["pieces"][0]["how"] == "picky, as run"
    with pytest.raises(RuntimeError, match="b: runs in no portions"):
        speed_floor.floor(pieces, watch)


# --- what is timed ---------------------------------------------------------------------------------


def test_seconds_of_some_blocks_are_scaled_by_operations():
    scale = Scale(False, HOLOCINE_14B, 10, 480, 832, torch.bfloat16)
    assert scale.factor(241, "sparse") == pytest.approx(4, rel=1e-3)
    assert Scale(False, HOLOCINE_14B, 40, 480, 832, torch.bfloat16).factor(33, "full") == 1


@pytest.mark.parametrize(
    ("gigabytes", "tflops", "expected"),
    [(80, 600, 10), (24, 600, 10), (8, 600, 4), (80, 60, 1), (80, 6000, 40), (1, 1, 1)],
)
def test_a_smaller_or_slower_card_runs_fewer_blocks(monkeypatch, gigabytes, tflops, expected):
    class Card:
        total_memory = gigabytes * 10**9

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Card)
    monkeypatch.setattr(speed_scale, "measure", lambda _: (tflops * 1e12, tflops * 1e12))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    scale = Scale(False, HOLOCINE_14B, 40, 480, 832, torch.bfloat16)
    assert runnable_layers(scale, torch.device("cuda")) == expected


def test_a_block_passes_its_tokens_through_each_layer():
    """Six layers of d by d at 100 tokens a call, the feed-forward's two at 50."""
    seconds = {Shape(100, 8, 8, 6): 1.0, Shape(50, 8, 24, 1): 2.0, Shape(50, 24, 8, 1): 3.0}
    assert a_token(seconds) == pytest.approx(6 / 100 + 2 / 50 + 3 / 50)


@pytest.mark.parametrize(
    ("raised", "foreign", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"), False, "does_not_fit"),
        (PinError("CUDA error 2"), False, "does_not_fit"),
        (SettingsError("kernel 'x': it is for other cards"), False, "failed"),
        (ValueError("no such thing"), True, "failed"),
        (ValueError("our own mistake"), False, None),
    ],
)
def test_no_memory_is_a_result_and_our_own_mistakes_are_not(raised, foreign, expected):
    def run():
        raise raised

    if expected is None:
        with pytest.raises(ValueError, match="our own"):
            attempted(run, foreign=foreign)
    else:
        (key,) = found = attempted(run, foreign=foreign)
        assert (key, "\n" in found[key]) == (expected, False)


# --- parts -----------------------------------------------------------------------------------------


def runner(path, parts, **facts):
    return Runner(Result(path, {"small": True, **facts}), parts, lambda _: None)


def test_what_is_interrupted_goes_on_and_what_is_finished_is_not_run_again(tmp_path):
    calls = []

    def interrupted():
        calls.append("b")
        if calls.count("b") == 1:
            raise KeyboardInterrupt
        return {"found": 2}

    parts = {"a": lambda: calls.append("a") or {"found": 1}, "b": interrupted}
    with pytest.raises(KeyboardInterrupt):
        runner(tmp_path / "r.json", parts).run_all()
    assert runner(tmp_path / "r.json", parts).missing == ["b"]
    runner(tmp_path / "r.json", parts).run_all()
    assert calls == ["a", "b", "b"]
    found = json.loads((tmp_path / "r.json").read_text())["parts"]
    assert [found[name]["found"] for name in "ab"] == [1, 2]


def test_another_runs_file_is_not_gone_on_with(tmp_path):
    runner(tmp_path / "r.json", {"a": dict}).run_all()
    other = Runner(Result(tmp_path / "r.json", {"small": False}), {"a": dict}, lambda _: None)
    with pytest.raises(click.UsageError, match="was measured with small True, this run has False"):
        other.run_all()


ENDS = {"crash": 7, "long": None}  # codes of parts


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs groups of processes: run on Linux or macOS")
def test_what_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    mark = tmp_path / "mark"
    child = f"import time, pathlib; time.sleep(2); pathlib.Path({str(mark)!r}).touch()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-Sc', {child!r}])"
    assert ended_within([sys.executable, "-Sc", parent], 0.5) is None
    assert ended_within([sys.executable, "-Sc", "raise SystemExit(5)"], 60) == 5
    time.sleep(2.5)
    assert not mark.exists()


def test_nothing_begins_when_the_time_is_over(tmp_path):
    left = iter([100.0, 5.0])
    given = Runner(
        Result(tmp_path / "r.json", {"small": True}), {"a": dict, "b": dict}, print, None, lambda: next(left)
    )
    given.run_all()
    assert given.missing == ["b"]
    given = Runner(Result(tmp_path / "r.json", {"small": True}), {"a": dict, "b": dict}, print, None, lambda: 100.0)
    given.run_all()
    assert given.missing == []


def test_what_the_end_of_the_time_cuts_off_is_no_result_and_a_second_crash_is_one(tmp_path, monkeypatch):
    limits = []
    monkeypatch.setattr(resumable, "ended_within", lambda command, limit: limits.append(limit) or ENDS[command[-1]])
    given = Runner(
        Result(tmp_path / "r.json", {"small": False}), {"crash": dict, "long": dict}, print, ["x"], lambda: 120.0
    )
    given.run_all()
    assert given.missing == ["crash", "long"]
    given.run_all()
    assert given.missing == ["long"]
    assert given.result.read()["parts"]["crash"]["failed"] == "ended with code 7, twice"
    assert set(limits) == {120.0}


def test_no_part_that_brings_a_model_up_is_begun_in_the_last_minute(tmp_path):
    parts, result = {"one": dict}, Result(tmp_path / "r.json", {"small": False})
    Runner(result, parts, print, ["x"], lambda: 60.0).run_all()
    assert result.read().get("crashed") is None, "it was not begun"
    Runner(result, parts, print, None, lambda: 60.0).run_all()
    assert "one" in result.read()["parts"], "a part of this process is"


@pytest.mark.skipif(sys.platform != "linux", reason="a process ends with its parent: run on Linux")
def test_a_part_ends_with_the_benchmark_that_began_it():
    """Also when the benchmark is killed, and cannot end it."""
    part = f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); from benchmarks import resumable; "
    part += "resumable.end_with_parent(); "
    part += "print('at work', flush=True); time.sleep(3600)"
    script = "import os, subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], "
    script += "start_new_session=True, stdout=subprocess.PIPE, text=True); child.stdout.readline(); "
    script += "print(child.pid, flush=True); os.kill(os.getpid(), 9)"
    said = subprocess.run([sys.executable, "-c", script, part], capture_output=True, text=True, check=False).stdout
    wait_until(
        lambda: not psutil.pid_exists(int(said)) or psutil.Process(int(said)).status() == psutil.STATUS_ZOMBIE
    )


def test_what_is_judged_comes_first_and_every_part_has_its_place(tmp_path):
    bench = Bench(tmp_path, CPU, Scale.tiny(), print)
    names = [*speed.parts(bench)]
    judged = [name for name in JUDGED if name in names]
    assert names[: len(judged)] == judged
    assert {*JUDGED} - {*judged} == {"bf16 cudnn @241"}, "which a CPU has not"
    lengths = [name.rpartition("@")[2] for name in names[len(judged) :] if "@" in name]
    assert lengths == sorted(lengths, key=["241", "33", "81"].index)


def test_a_part_that_takes_too_long_is_a_result_and_one_that_crashes_is_tried_again(tmp_path, monkeypatch):
    result = Result(tmp_path / "r.json", {"small": False})
    apart = Runner(result, {"crash": dict, "long": dict}, lambda _: None, ["speed"])

    monkeypatch.setattr(resumable, "ended_within", lambda command, _: ENDS[command[-1]])
    apart.run_all()
    assert apart.missing == ["crash"]
    assert result.read()["parts"]["long"]["failed"] == "took more than 540 s"


# --- the command -----------------------------------------------------------------------------------


TINIEST = Scale(
    True,
    DiTConfig(128, 2, 256, 1, text_dim=64, freq_dim=64),
    layers=1,
    height=16,
    width=32,
    dtype=torch.float32,
    repeats=Repeats(2, 2),
)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """One for all tests, so that models are written once."""
    return tmp_path_factory.mktemp("speed")


@pytest.fixture
def command(monkeypatch, tmp_path, work):
    """Run the benchmark here, at a size that takes a second, with a result file of its own."""
    monkeypatch.setattr(Scale, "tiny", lambda: TINIEST)
    for module in (speed_floor, speed_products):
        monkeypatch.setattr(module, "OFTEN", Repeats(1, 1))

    def run(*words):
        with pytest.raises(SystemExit) as caught:
            speed.main.main([str(work), "--small", "--result", str(tmp_path / "found.json"), *map(str, words)])
        return caught.value.code or 0

    return run


def last_line(capsys):
    said = capsys.readouterr().out
    return said, json.loads(said.splitlines()[-1])


def test_every_way_runs_and_is_reported(command, capsys):
    assert command("--only", "*@33", "--only", "gemms") == 0
    said, found = last_line(capsys)
    cells = {name: part for name, part in found["parts"].items() if "frames" in part}
    assert {part["kind"] for part in cells.values()} == {"own", "reference", "diffusers", "floor"}
    assert [name for name, part in cells.items() if "seconds" not in part] == []
    assert all(part["peak_bytes"] > 0 for part in cells.values() if part["kind"] != "floor")
    assert {"bf16 sdpa @33", "bf16 auto, streamed from nf4 @33", "diffusers nf4 offloaded @33"} <= {*cells}
    assert {*found["parts"]["gemms"]["modes"]} == {"fp8", "int8"}
    assert "not judged" in said
    assert "MISSED" not in said


def test_a_slower_run_is_named_and_ends_with_1(command, capsys, tmp_path):
    kept, only = tmp_path / "kept.json", ("--only", "bf16 sdpa @33", "--only", "reference @33")
    assert command(*only, "--compare", "--kept", kept) == 0
    assert "no result is kept" in last_line(capsys)[0]
    assert command(*only, "--keep", "--kept", kept) == 0
    said, _ = last_line(capsys)
    assert said.count("done before") == 2
    record = json.loads(kept.read_text())
    for part in record["parts"].values():
        part["seconds"] = [each / 1000 for each in part["seconds"]]
    kept.write_text(json.dumps(record))
    assert command(*only, "--compare", "--kept", kept) == 1
    said, found = last_line(capsys)
    assert [change["name"] for change in found["slower"]] == ["bf16 sdpa @33", "reference @33"]
    assert "so did the machine" in said


def test_fresh_measures_again_what_is_whole_or_of_other_code(command, capsys, tmp_path):
    only = ("--only", "reference @33", "--only", "floor @33")
    command(*only)
    state = tmp_path / "found.json"
    record = json.loads(state.read_text())
    record["parts"]["floor @33"]["code"] = "older"
    del record["parts"]["reference @33"]
    state.write_text(json.dumps(record))
    assert command(*only) == 0, "and without --fresh what is there stays"
    assert last_line(capsys)[1]["parts"]["floor @33"]["code"] == "older"
    record = json.loads(state.read_text())
    del record["parts"]["floor @33"]
    state.write_text(json.dumps(record))
    command(*only, "--fresh")
    assert "reference @33: done before" in capsys.readouterr().out, "an unfinished run goes on"
    command(*only, "--fresh")
    assert "done before" not in capsys.readouterr().out, "a finished one begins anew"
    state.write_text(json.dumps({**record, "torch": "0.1"}))
    assert command(*only) == 2
    assert command(*only, "--fresh") == 0


# --- what became slower ----------------------------------------------------------------------------

FACTS = {
    "small": False,
    "device": "a card",
    "torch": "2",
    "cuda": "13",
    "dtype": "bfloat16",
    "model": vars(HOLOCINE_14B),
    "layers": 40,
    "branches": 2,
    "picture": [480, 832],
    "shots": 5,
}


def record(**parts):
    return {**FACTS, "parts": {name: {"kind": "own", "seconds": seconds} for name, seconds in parts.items()}}


noisy = st.lists(st.floats(0.95, 1.05), min_size=3, max_size=7)


@settings(max_examples=50)
@given(noisy, noisy, st.floats(0.01, 100))
def test_a_real_regression_is_named_and_noise_of_the_same_spread_is_not(before, after, seconds):
    """Both are noise of 5 % around one time; then the later ones are all a quarter slower."""
    kept = record(a=[seconds * min(before), seconds * max(*before, *after), seconds])
    same = compare(kept, record(a=[seconds * each for each in after]), ["a"])
    assert (same.slower, same.changes) == (False, ())
    slower = compare(kept, record(a=[1.25 * seconds * each for each in after]), ["a"])
    assert slower.slower
    assert slower.changes[0].name == "a"


def test_a_single_quick_run_is_no_proof_of_the_contrary():
    """All runs must be slower than all were; one that is not leaves it open."""
    kept = record(a=[1.0, 1.0, 1.01])
    assert not compare(kept, record(a=[1.02, 1.4, 1.5]), ["a"]).slower
    assert compare(kept, record(a=[1.04, 1.04, 1.04]), ["a"]).slower


def test_a_start_that_became_slower_is_ours():
    kept, now = record(start=[3.0, 4.0]), record(start=[5.0, 6.0])
    for each in (kept, now):
        each["parts"]["start"]["kind"] = "start"
    assert compare(kept, now, ["start"]).slower


def test_a_way_that_ran_and_does_not_any_more_is_named():
    now = record(a=[1.0])
    now["parts"]["a"] = {"kind": "own", "does_not_fit": "CUDA out of memory"}
    found = compare(record(a=[1.0]), now, ["a"])
    assert found.slower
    assert "runs no more: CUDA out of memory" in found.lines[0]


def test_others_that_became_slower_speak_of_the_machine_and_are_no_fault_of_ours():
    kept, now = record(floor=[1.0]), record(floor=[2.0])
    for each in (kept, now):
        each["parts"]["floor"]["kind"] = "floor"
    found = compare(kept, now, ["floor"])
    assert not found.slower
    assert any("so did the machine" in line for line in found.lines)


def test_only_what_was_chosen_and_is_in_both_is_compared():
    found = compare(record(a=[1.0], b=[1.0]), record(a=[1.0], b=[9.0], c=[9.0]), ["a", "c"])
    assert found.changes == ()
    assert found.notes[-1].startswith("1 parts compared")


@pytest.mark.parametrize("key", ["layers", "branches", "device", "dtype"])
def test_results_of_other_runs_are_not_compared(key):
    kept = {**record(a=[1.0]), key: "another"}
    found = compare(kept, record(a=[9.0]), ["a"])
    assert not found.slower
    assert f"of another {key}" in found.lines[0]


# --- targets ---------------------------------------------------------------------------------------


USUAL: dict[str, dict[str, Any]] = {
    "own": {"linear": "plain", "exact": True, "streamed": False, "kernel": "flash"},
    "reference": {"kernel": "flash"},
    "diffusers": {"weights": "plain", "offload": False},
}


def cell(kind, seconds, **says):
    usual = USUAL.get(kind, {})
    facts = {"kind": kind, "frames": 241, "dense": kind == "diffusers", "seconds": [seconds] * 3, **usual, **says}
    return {"name": kind, **facts}


def measured():
    """Made up: a card on which every target is just met."""
    parts = {
        "ours": cell("own", 10.0),
        "ours by another kernel": cell("own", 9.9, kernel="cudnn"),
        "ours in fp8": cell("own", 7.0, linear="fp8"),
        "ours streamed": cell("own", 10.1, streamed=True),
        "reference": cell("reference", 10.71),
        "diffusers": cell("diffusers", 21.0),
        "diffusers nf4": cell("diffusers", 19.7, weights="nf4"),
        "floor": cell("floor", 9.0),
        "gemms": {"modes": {"fp8": {"speed": 1.5, "shapes": {}}, "int8": {"refused": "there is none"}}},
        "start": {prompt: {"until_step": 9.0, "first_step": 11.0, "step": 2.0} for prompt in ("new", "known")},
    }
    return {**FACTS, "parts": parts}


def met(found):
    return [verdict.met for verdict in verdicts(found)]


def test_targets_are_met_by_figures_that_meet_them():
    assert met(measured()) == [True, True, True, True, True, None, True]


@pytest.mark.parametrize(
    ("part", "changes", "place"),
    [
        ("floor", {"seconds": [8.9]}, 0),
        ("reference", {"seconds": [10.6]}, 1),
        ("diffusers", {"seconds": [20.7]}, 2),
        ("diffusers nf4", {"seconds": [19.5]}, 3),
        ("gemms", {"modes": {"fp8": {"speed": 1.49, "shapes": {}}}}, 4),
        ("start", {prompt: {"until_step": 10.1, "first_step": 11, "step": 1} for prompt in ("new", "known")}, 6),
    ],
)
def test_each_target_is_missed_by_a_little_less(part, changes, place):
    found = measured()
    found["parts"][part] |= changes
    expected = met(measured())
    expected[place] = False
    assert met(found) == expected


def test_the_reference_is_compared_with_the_same_kernel():
    found = measured()
    found["parts"]["ours"]["seconds"] = [10.5]
    assert met(found)[1] is False
    assert "10.500 s" in verdicts(found)[1].figures


def test_int8_is_judged_on_the_cards_it_is_for():
    found = measured()
    found["parts"]["gemms"]["modes"]["int8"] = {"speed": 1.4, "shapes": {}}
    assert met(found)[5] is None
    assert met({**found, "device": "NVIDIA GeForce RTX 4090"})[5] is False


def test_what_has_no_figure_is_not_judged():
    found = measured()
    del found["parts"]["reference"]["seconds"]
    found["parts"]["reference"]["does_not_fit"] = "out of memory"
    assert met(found)[1] is None
    assert any("does not fit: out of memory" in line for line in table(found))
    short = copy.deepcopy(measured())
    for part in short["parts"].values():
        if "frames" in part:
            part["frames"] = 33
    assert met(short)[:4] == [None] * 4, "the targets speak of 241 frames"


@pytest.mark.parametrize("facts", [{"cuda": None}, {"small": True}])
def test_a_cpu_and_a_small_size_are_not_judged(facts):
    assert met({**measured(), **facts}) == [None] * 7


def test_the_table_puts_dense_attention_per_operation():
    """Diffusers takes 2.1 times as long for 2.2 times as many operations: per operation it is no slower."""
    lines = [line for line in table(measured()) if line.startswith("diffusers ")]
    sparse, full = (forward_operations(HOLOCINE_14B, LAYOUT, kind).total for kind in ("sparse", "full"))
    assert lines[0].split()[-1] == f"{21 / 9.9 / (full / sparse):.2f}x"


def test_what_fits_only_without_some_of_its_blocks_is_said():
    found = measured()
    found["parts"]["ours"]["fits"] = False
    (line,) = [line for line in table(found) if "does not fit" in line]
    assert line.startswith("own ")
    assert line.endswith("whole it does not fit this card")


LAYOUT = ShotLayout.from_frames(241, (49, 97, 145, 193), 480, 832)
