"""An adapter that is added as the model runs makes what the merged model makes, and leaves the model as it is."""

import gc
import json
import math
import re
import shlex
import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import av
import pytest
import torch
import torch.nn.functional as F
from conversions import CPU, EXPERTS, convert
from file_experts import FileExperts
from live_bytes import LiveBytes
from safetensors.torch import load_file, save_file
from small_model import config_of, random_model
from test_cuda_lane import DRAWS, on_a_card
from test_full_size import TWO_BLOCKS, ExpertsOfNothing, skeleton, step
from test_plan_measured import MODELS, SMALL, Case, denoise, holds, plan_of, write_model
from whole_models import write_holes

from holo_lite import ModelOptions, Pipeline, latents_of as finished_latents
from holo_lite.config import Expert
from holo_lite.eightbit.coding import quantize
from holo_lite.eightbit.rows import FORMATS
from holo_lite.errors import CheckpointError, SettingsError
from holo_lite.film.video import read_metadata
from holo_lite.lora import adaptation
from holo_lite.lora.adaptation import Adaptation
from holo_lite.lora.file import open_lora
from holo_lite.lora.low_rank import LowRank
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.compute import Compute
from holo_lite.model.linear import Linear, Packed
from holo_lite.model.load import load_expert
from holo_lite.opening.adapters import open_adapters
from holo_lite.plan.fit import make_plan
from holo_lite.plan.machine import Machine
from holo_lite.plan.opened import _adapted, folder_sizes
from holo_lite.plan.phases import WORKSPACE, Arithmetic, ClipRequest
from holo_lite.plan.profile import find_profile
from holo_lite.plan.released import expert_shapes, released_sizes, stored_weights
from holo_lite.plan.sizes import EXPERT_BLOCK, stack_sizes
from holo_lite.preflight.forecast import forecast
from holo_lite.preflight.target import ForecastPlace
from holo_lite.sampling.sampler import Context, Guidance, initial_noise, sample
from holo_lite.sampling.schedule import Schedule
from holo_lite.schemes.registry import SCHEMES, find
from holo_lite.settings import AddedLora, Options, RunSettings
from holo_lite.story.shots import ShotLayout
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.streaming.disk import DiskReader
from holo_lite.streaming.experts import ExpertSetup, StreamedExperts
from holo_lite.streaming.host_adapters import HostAdapters
from holo_lite.streaming.lanes import CpuLane
from holo_lite.streaming.residency import Residency
from holo_lite.tiny.model import tiny_model
from holo_lite.weights.converted import stored_shapes
from holo_lite.weights.files import open_weights
from holo_lite.weights.folder import open_folder
from holo_lite.weights.hashing import Hasher
from quantize.source import Source

BF16, FP32 = torch.bfloat16, torch.float32
RANK, LAYERS = 4, 3
CONFIG = replace(config_of(32, 4, LAYERS, 192), text_dim=64)
CLIP = Clip(ShotLayout((0, 2), 4, 3, 4), "sparse", Chunks(20, 15))
STEPS = Schedule.of(2)  # one of each expert
SHAPES = {name: tuple(tensor.shape) for name, tensor in random_model(CONFIG).state_dict().items()}
MATRICES = tuple(name for name, shape in SHAPES.items() if len(shape) == 2)
Q = "blocks.1.self_attn.q.weight"


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def factors(rows, columns, *, seed=0, rank=RANK):
    """Factors whose product is about as large as a weight."""
    return normal(rows, rank, seed=seed) * rank**-0.5, normal(rank, columns, seed=seed + 1) * columns**-0.5


def pairs(names, shapes=SHAPES, seed=0, rank=RANK):
    """The tensors of a file with a pair for each of these weights."""
    tensors = {}
    for number, name in enumerate(names):
        up, down = factors(*shapes[name], seed=seed + 2 * number, rank=rank)
        module = name.removesuffix(".weight")
        tensors |= {f"{module}.lora_up.weight": up, f"{module}.lora_down.weight": down}
    return tensors


def wholes():
    """Whole differences of all that is small, and a pair for the one convolution."""
    kinds = {"bias": "diff_b", "weight": "diff", "modulation": "diff_m"}
    tensors = {}
    for number, (name, shape) in enumerate(SHAPES.items()):
        module, _, leaf = name.rpartition(".")
        if len(shape) != 2 and name != "patch_embedding.weight":
            tensors[f"{module}.{kinds[leaf]}"] = 0.1 * normal(*shape, seed=500 + number)
    dim, *patch = SHAPES["patch_embedding.weight"]
    up, down = factors(dim, math.prod(patch), seed=900)
    tensors["patch_embedding.lora_up.weight"] = up.view(dim, RANK, 1, 1, 1)
    tensors["patch_embedding.lora_down.weight"] = down.view(RANK, *patch)
    return tensors


def write(path, tensors):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A small model as released in fp32, in nf4, in bf16, in bf16 with an adapter merged in; and adapters."""
    home = tmp_path_factory.mktemp("model")
    write_model(home / "plain", CONFIG, FP32)
    convert(home / "plain", home / "nf4", "nf4")
    write(home / "every.safetensors", pairs(MATRICES))
    write(home / "other.safetensors", pairs(MATRICES, seed=300, rank=7))
    write(home / "whole.safetensors", pairs(MATRICES) | wholes())
    halves = {name: tensor.bfloat16() for name, tensor in (pairs(MATRICES) | wholes()).items()}
    lora = (write(home / "halves.safetensors", halves), 0.7)
    write_model(home / "bf16", CONFIG, BF16)
    convert(home / "bf16", home / "merged", "bf16", loras={expert: [lora] for expert in EXPERTS})
    return home


def experts_of(folder):
    return open_folder(folder).experts


def adapters_of(folder, high=(), low=()):
    """Adapters for a folder's experts, given as files and strengths."""
    loras: dict[Expert, Any] = {"high_noise": high, "low_noise": low}
    return open_adapters(open_folder(folder), {expert: given for expert, given in loras.items() if given}).by_expert


def files(paths, dtype=FP32, **options):
    return FileExperts.of(paths, dtype, CPU, **options)


def latents_of(experts, dtype=FP32):
    rows = normal(2, 512, 64, seed=5).to(dtype)
    steps = sample(experts, initial_noise(CLIP, 1), Guidance(Context(rows[0]), Context(rows[1]), 3.0), STEPS, CLIP)
    return [progress.latents for progress in steps]


def merged(home, *loras):
    """Experts with adapters merged as `holo-lite quantize` does, stored in fp32."""
    out = home / f"merged-{len(list(home.iterdir()))}"
    out.mkdir()
    for expert, path in experts_of(home / "plain").items():
        source = Source(open_weights(path), loras=[open_lora(*lora) for lora in loras])
        write(out / f"{expert}.safetensors", {name: source.load(name) for name in source.entries})
    return {expert: out / f"{expert}.safetensors" for expert in EXPERTS}


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def equal(found, expected):
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


# --- one weight ------------------------------------------------------------------------------------


def linear_of(scheme, weight, bias, dtype):
    """A layer whose weight is stored under a scheme, or as it is in `dtype`."""
    linear = Linear(weight.shape[1], weight.shape[0]).requires_grad_(False)
    linear.bias.data = bias
    if scheme == "as it is":
        linear.weight.data = weight.to(dtype)
        return linear
    del linear.weight
    linear.weight = Packed(scheme, tuple(weight.shape))
    for name, part in find(scheme).pack(weight).items():
        setattr(linear.weight, name, part)
    return linear


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("scheme", ["as it is", *SCHEMES])
def test_a_ready_weight_is_what_is_stored_plus_the_product_and_nothing_stored_changes(scheme, dtype):
    weight, bias = normal(96, 256), normal(96).to(dtype)
    up, down = (factor.to(dtype) for factor in factors(96, 256))
    linear = linear_of(scheme, weight, bias, dtype)
    stored = [linear.weight] if scheme == "as it is" else [*linear.weight.buffers()]
    before = [part.clone() for part in stored]
    plain = linear.unpacked().weight.clone()
    linear.adapter = LowRank(up, down, -0.7)
    found = linear.unpacked().weight
    exact = plain.double() - 0.7 * up.double() @ down.double()
    assert found.dtype == dtype
    terms = plain.double().abs() + up.double().abs() @ down.double().abs()  # summed in fp32 at least
    once = torch.finfo(dtype).eps / 2 * exact.abs() + 4 * torch.finfo(FP32).eps * terms
    assert ((found - exact).abs() <= once).all(), "rounded more than once"
    assert equal(stored, before)
    assert torch.equal(linear.unpacked().weight, found), "the second visit sees the first one's sum"
    x = normal(5, 256).to(dtype)
    assert torch.equal(linear(x), F.linear(x, found, bias))


@pytest.mark.parametrize("mode", ["int8", "fp8"])
@pytest.mark.parametrize("scheme", ["as it is", "int8", "nf4", "qfloat8"])
def test_in_8_bits_the_product_is_added_before_rounding(scheme, mode):
    """Even if the weight is stored in those very 8 bits."""
    linear = linear_of(scheme, normal(96, 256), normal(96).bfloat16(), BF16)
    dense = linear.weight.unpack(FP32) if scheme != "as it is" else linear.weight.float()
    up, down = (factor.bfloat16() for factor in factors(96, 256))
    linear.adapter = LowRank(up, down, 0.6)
    found = linear.unpacked(mode=mode).weight
    expected = quantize(torch.addmm(dense, up.float(), down.float(), alpha=0.6), FORMATS[mode])
    assert torch.equal(found.codes.float(), expected.codes.float())
    assert torch.equal(found.scale, expected.scale)


def test_pairs_for_one_weight_add_up_and_none_counts_for_another(home, tmp_path):
    k = Q.replace(".q.", ".k.")
    one = open_lora(write(tmp_path / "one.safetensors", pairs([Q], seed=1)), 0.5)
    two = open_lora(write(tmp_path / "two.safetensors", pairs([Q, k], seed=7, rank=9)), -2.0)
    path = experts_of(home / "plain")["high_noise"]
    adaptation = Adaptation.of([one, two], open_weights(path), {})
    hosted = HostAdapters.load(adaptation, CpuLane(), FP32, pinned=False)
    model = load_expert(path, dtype=FP32, device=CPU)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hosted.hang(model)
    ready = {name: model.get_submodule(name.removesuffix(".weight")).unpacked().weight for name in MATRICES}
    torch.testing.assert_close(ready[Q], before[Q] + one.delta(Q) + two.delta(Q), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ready[k], before[k] + two.delta(k), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(ready[name], before[name]) for name in MATRICES if name not in (Q, k))


def test_factors_stored_in_16_bits_are_taken_as_they_are(home, tmp_path):
    for dtype in (BF16, torch.float16):
        tensors = {name: tensor.to(dtype) for name, tensor in pairs([Q]).items()}
        lora = open_lora(write(tmp_path / "lora.safetensors", tensors), 0.3)
        adaptation = Adaptation.of([lora], open_weights(experts_of(home / "plain")["low_noise"]), {})
        factors = HostAdapters.load(adaptation, CpuLane(), FP32, pinned=False).factors[Q]
        torch.testing.assert_close(factors.scale * factors.up @ factors.down, lora.delta(Q))


# --- a whole model ---------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["every.safetensors", "whole.safetensors"])
def test_added_at_run_time_is_merged_before(home, file):
    """In fp32 there is nothing between them but the order of a sum."""
    expected = latents_of(files(merged(home, (home / file, 0.7))))
    adapters = adapters_of(home / "plain", [(home / file, 0.7)], [(home / file, 0.7)])
    paths = experts_of(home / "plain")
    found = latents_of(files(paths, adapters=adapters))
    assert max(relative(a, b) for a, b in zip(found, expected, strict=True)) < 2e-5
    without = latents_of(files(paths))
    assert relative(without[-1], expected[-1]) > 0.1, "an adapter that changes nothing tests nothing"


def test_two_adapters_are_what_both_merged_are(home):
    loras = (home / "every.safetensors", 0.7), (home / "other.safetensors", -0.4)
    adapters = adapters_of(home / "plain", loras, loras)
    found = latents_of(files(experts_of(home / "plain"), adapters=adapters))
    assert relative(found[-1], latents_of(files(merged(home, *loras)))[-1]) < 2e-5


def test_a_conversion_to_bf16_that_merges_has_the_same_weights_to_rounding(home):
    """Both round the sum once to bf16: of ten thousand numbers a few differ, in their last bit."""
    given = [(home / "halves.safetensors", 0.7)]
    adapters = adapters_of(home / "bf16", given, given)
    for expert, path in experts_of(home / "merged").items():
        merged = load_expert(path, dtype=BF16, device=CPU).state_dict()
        with files(experts_of(home / "bf16"), BF16, adapters=adapters).lend(expert) as model:
            found = model.state_dict()
            for name in MATRICES:
                found[name] = model.get_submodule(name.removesuffix(".weight")).unpacked().weight
        a, b = (torch.cat([tensors[name].flatten() for name in merged]).float() for tensors in (found, merged))
        assert (a != b).float().mean() < 0.001
        one_place = torch.finfo(BF16).eps * b.abs() + 4 * torch.finfo(FP32).eps  # terms of about 1, summed in fp32
        assert ((a - b).abs() <= one_place).all()


def test_with_packed_weights_the_product_is_added_to_what_they_unpack_to(home):
    lora = open_lora(home / "every.safetensors", 0.7)
    paths = experts_of(home / "nf4")
    plain = {expert: load_expert(path, dtype=FP32, device=CPU) for expert, path in paths.items()}
    oracle = {}
    for expert, model in plain.items():
        weights = dict(load_file(experts_of(home / "plain")[expert]))
        for name, module in model.named_modules():
            if isinstance(module, Packed):
                weights[name] = module.unpack(FP32)
        for name in set(weights) - {name for name, module in model.named_modules() if isinstance(module, Packed)}:
            weights[name] = model.get_parameter(name).detach()
        for name in MATRICES:
            weights[name] = weights[name] + lora.delta(name)
        oracle[expert] = write(home / f"oracle-{expert}.safetensors", weights)
    given = [(home / "every.safetensors", 0.7)]
    found = latents_of(files(paths, adapters=adapters_of(home / "nf4", given, given)))
    assert relative(found[-1], latents_of(files(oracle))[-1]) < 2e-5


def test_strength_zero_is_no_adapter(home):
    given = [(home / "whole.safetensors", 0.0)]
    assert adapters_of(home / "plain", given, given) == {}
    kept = adapters_of(home / "plain", [*given, (home / "every.safetensors", 1)])["high_noise"]
    assert {len(shares) for shares in kept.pairs.values()} == {1}
    assert kept.changes == {}


def test_one_experts_adapter_leaves_the_other_alone(home):
    paths = experts_of(home / "plain")
    without = latents_of(files(paths))
    for expert, same_first in (("high", False), ("low", True)):
        adapters = adapters_of(home / "plain", **{expert: [(home / "every.safetensors", 1.0)]})
        found = latents_of(files(paths, adapters=adapters))
        assert torch.equal(found[0], without[0]) == same_first
        assert not torch.equal(found[1], without[1])


# --- streamed --------------------------------------------------------------------------------------

KEPT = [
    Residency(),
    Residency(resident=LAYERS, resident_other=LAYERS),
    Residency(resident=1, slots=3, ring=3, cached=1),
    Residency(slots=1, ring=1, pinned=False),
]
ONE_EACH = {"high_noise": 1, "low_noise": 1}


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("stored", ["plain", "nf4"])
def test_where_blocks_are_kept_does_not_change_a_bit(home, stored, dtype):
    file = "whole.safetensors"
    adapters = adapters_of(home / stored, [(home / file, 0.7)], [(home / file, -0.5)])
    paths = experts_of(home / stored)
    expected = latents_of(files(paths, dtype, adapters=adapters), dtype)
    for residency in KEPT:
        with StreamedExperts(ExpertSetup(paths, dtype, CPU, adapters=adapters), ONE_EACH, residency) as experts:
            assert equal(latents_of(experts, dtype), expected), residency


def test_blocks_that_stay_are_the_same_after_a_run(home):
    adapters = adapters_of(home / "plain", [(home / "whole.safetensors", 0.7)])
    paths, seen, disk = experts_of(home / "plain"), [], DiskReader()

    class Watched(StreamedExperts):
        @contextmanager
        def lend(self, expert):
            with super().lend(expert) as model:
                yield model
                after = {visit: buffer.data for visit, buffer in self._holdings.resident.items()}
            for visit, data in after.items():
                stored = torch.empty_like(data)
                disk.read(self._holdings.image(visit), stored)
                assert torch.equal(data, stored)
            seen.append(len(after))

    with Watched(ExpertSetup(paths, FP32, CPU, adapters=adapters), ONE_EACH, Residency(resident=LAYERS)) as experts:
        latents_of(experts)
    assert seen == [LAYERS, LAYERS]


@pytest.mark.parametrize(("order", "seed"), DRAWS)
@pytest.mark.parametrize("limit", [2**40, 0], ids=["pinned", "nothing to be pinned"])
def test_no_order_of_a_cards_streams_changes_a_bit(home, monkeypatch, order, seed, limit):
    """In bf16, as it is stored: the stand-in queues forwards and copies, but not casts."""
    adapters = adapters_of(home / "nf4", [(home / "every.safetensors", 0.7)], [(home / "other.safetensors", 1)])
    paths, residency = experts_of(home / "nf4"), Residency(resident=1, pinned=False)
    with StreamedExperts(ExpertSetup(paths, BF16, CPU, adapters=adapters), ONE_EACH, residency) as experts:
        expected = latents_of(experts, BF16)
    card, load, held = on_a_card(monkeypatch, order, seed, limit), HostAdapters.load, []

    def loaded(*given, **_):
        hosted = load(*given, pinned=True)
        held.append(hosted.buffer.data.data_ptr() in card.runtime.pinned)
        return hosted

    monkeypatch.setattr(HostAdapters, "load", loaded)
    with StreamedExperts(ExpertSetup(paths, BF16, CPU, adapters=adapters), ONE_EACH, residency) as experts:
        assert equal(latents_of(experts, BF16), expected)
    assert held == [limit > 0] * 2
    assert card.faults == []
    assert card.runtime.pinned == {}, "all that was pinned is unpinned again"


# --- memory ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Models as `test_plan_measured` plans for, and adapters that weigh something beside them."""
    place, made = tmp_path_factory.mktemp("large"), {}
    shapes = {name: tuple(tensor.shape) for name, tensor in random_model(SMALL).state_dict().items()}
    blocks = [name for name, shape in shapes.items() if len(shape) == 2 and name.startswith("blocks.")]
    write(place / "blocks.safetensors", pairs(blocks, shapes, rank=96))
    ends = [name for name, shape in shapes.items() if len(shape) == 2 and name not in blocks]
    write(place / "ends.safetensors", pairs(ends, shapes, rank=96))

    def get(name):
        scheme, stored, computed = MODELS[name]
        if name not in made:
            source = write_model(place / f"source {name}", SMALL, stored)
            if scheme:
                convert(source, place / name, scheme)
            made[name] = open_folder(place / name if scheme else source)
        return made[name], computed, place

    return get


@pytest.mark.parametrize(
    ("name", "room", "cfg", "linear"),
    [
        ("plain", 1, "joint", "plain"),
        ("nf4", 9, "sequential", "plain"),
        ("fp32 in bf16", 2, "joint", "plain"),
        ("nf4", 0, "joint", "int8"),
        ("plain", 1, "sequential", "fp8"),
    ],
)
def test_a_run_with_adapters_takes_what_is_planned(large, name, room, cfg, linear):
    """And gives it back. On a CPU all of an expert's factors are the device's, and there is no copy of them."""
    case, (folder, computed, place) = Case(33, (17,), 64, 80, room, cfg), large(name)
    given = [(place / "blocks.safetensors", 1.0), (place / "ends.safetensors", 0.5)]
    adapters = open_adapters(folder, {"high_noise": given, "low_noise": given[:1]}).by_expert
    plan, without = (plan_of(folder, case, computed, adapters=each, linear=linear) for each in (adapters, {}))
    with LiveBytes(without_meta=True, computing=False) as live:
        run = denoise(folder, case, computed, plan, CPU, adapters=adapters, compute=Compute(linear=linear))
        next(run)
        high, live.peak = live.peak, live.now
        assert len(list(run)) == 1
        gc.collect()
        left = live.now
    holds(high, plan.high_noise.peak)
    assert live.peak <= max(plan.high_noise.peak, plan.low_noise.peak)
    assert high > without.high_noise.peak, "adapters so small that no plan could miss them"
    assert left < 0.1 * high


def at_full_size(path, scheme):
    """Sizes of two blocks of the released model, and an adapter of rank 64 for every matrix of it."""
    shapes = dict(expert_shapes(TWO_BLOCKS))
    ranks = {"up": lambda rows, _: (rows, 64), "down": lambda _, columns: (64, columns)}
    factors = {
        f"{name.removesuffix('.weight')}.lora_{way}.weight": shape(*shapes[name])
        for name in shapes
        if len(shapes[name]) == 2
        for way, shape in ranks.items()
    }
    lora = open_lora(write_holes(path / "lora.safetensors", factors))
    expert = open_weights(write_holes(path / "expert.safetensors", shapes))
    adaptation = Adaptation.of([lora], expert, {})
    stored = (_adapted(weight, adaptation, 2) for weight in stored_weights(shapes.items(), scheme))
    stack = replace(stack_sizes(stored, EXPERT_BLOCK), adapters=adaptation.nbytes(2))
    return replace(released_sizes(scheme, TWO_BLOCKS), high_noise=stack, low_noise=stack), adaptation


def test_at_full_size_a_card_takes_what_is_planned(tmp_path):
    """Factors that are kept in fp32 are cast to bf16 in every visit: as many bytes as a copy to a card takes."""
    shots = ShotLayout.from_frames(33, (17,), 480, 832)
    sizes, added = at_full_size(tmp_path, "bf16")
    sums = Arithmetic(sizes, ClipRequest(shots), "cuda", 2)
    planned = sums.denoise(sizes.high_noise, Chunks(), 2, joint=True) - WORKSPACE
    experts = ExpertsOfNothing(skeleton("bf16"), sizes.slot)
    with torch.device("meta"):
        for name in added.pairs:
            rows, columns = added.shapes[name]
            linear = experts.model.get_submodule(name.removesuffix(".weight"))
            assert isinstance(linear, Linear)
            linear.adapter = LowRank(torch.empty(rows, 64), torch.empty(64, columns), 1.0)
        with LiveBytes(computing=False) as live:
            measured = step(live, experts, shots, joint=True)
    holds(measured, planned)


def test_factors_count_as_pinned_memory_of_a_card(home):
    """What is kept of blocks has so much less room."""
    folder = open_folder(home / "plain")
    adapters = adapters_of(home / "plain", [(home / "every.safetensors", 1)])
    request, profile = ClipRequest(ShotLayout((0,), 2, 4, 4)), replace(find_profile("8gb"), largest=Chunks(64, 32))
    machine = Machine("card", 2**30, 2**30, 2**40, 2**40)
    plans = [make_plan(profile, folder_sizes(folder, 4, each), request, machine) for each in (adapters, {})]
    high, low = ([getattr(plan, name).pinned for plan in plans] for name in ("high_noise", "low_noise"))
    assert high[0] - high[1] == adapters["high_noise"].nbytes(4) > 0
    assert low[0] == low[1]


# --- what is told ----------------------------------------------------------------------------------

BAD = {
    "nothing in the model matches blocks.77.self_attn.q.lora_down.weight": pairs(
        ["blocks.77.self_attn.q.weight"], {"blocks.77.self_attn.q.weight": (128, 128)}
    ),
    "does not fit blocks.1.self_attn.q.weight of [128, 128]": pairs([Q], {Q: (128, 64)}),
    "what it adds to blocks.1.self_attn.q.weight holds NaN or Inf": {
        name: tensor * float("nan") if "down" in name else tensor for name, tensor in pairs([Q]).items()
    },
    "what it adds to head.head.bias holds NaN or Inf": {"head.head.diff_b": torch.full((64,), float("inf"))},
    "holds no tensors": {},
    "differences for blocks.1.self_attn.q.weight, which cannot be added at run time; merge it with": {
        "blocks.1.self_attn.q.diff": torch.zeros(128, 128)
    },
}


@pytest.mark.parametrize("said", BAD)
def test_an_adapter_that_cannot_be_added_is_refused_before_anything_is_loaded(home, tmp_path, said):
    path = write(tmp_path / "lora.safetensors", BAD[said])
    with pytest.raises(CheckpointError, match=re.escape(said)) as caught:
        adapters_of(home / "nf4", [(path, 1.0)])
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_whole_difference_that_is_large_is_refused(home, tmp_path, monkeypatch):
    path = write(tmp_path / "lora.safetensors", {"blocks.0.ffn.0.diff": torch.ones(192, 128)})
    assert adapters_of(home / "plain", [(path, 1)])["high_noise"].changes
    monkeypatch.setattr(adaptation, "LARGEST", 192 * 128 - 1)
    with pytest.raises(CheckpointError, match=r"has full-weight differences for blocks\.0\.ffn\.0\.weight"):
        adapters_of(home / "plain", [(path, 1)])


def test_a_model_with_merged_adapters_says_so_when_it_is_given_more(home):
    given = [(home / "every.safetensors", 0.7)]
    folder = open_folder(home / "merged")
    assert open_adapters(folder, {"low_noise": given}).notes == (
        "low_noise was converted with halves.safetensors:0.7 merged in; what --lora gives is added to that",
    )
    assert open_adapters(folder, {}).notes == ()
    assert open_adapters(open_folder(home / "plain"), {"low_noise": given}).notes == ()


def test_planning_counts_adapters_and_needs_the_model_for_it(toy_copy, fast, tmp_path):
    board, machine = Storyboard("a house", (Shot("a"),)), Machine(ram_free=2**32, ram=2**33)
    options = Options(frames=9, height=32, width=32)
    given, where = {"high_noise": [(fast, 1.0)]}, ForecastPlace(machine=machine, rates=tmp_path)
    plans = [
        forecast(board, options, toy_copy, ModelOptions(profile="cpu", lora=lora), where).plan
        for lora in (given, {})
    ]
    assert plans[0].high_noise.peak > plans[1].high_noise.peak
    with pytest.raises(SettingsError, match="--lora: needs the model it is added to"):
        forecast(board, options, how=ModelOptions(profile="cpu", lora=given), where=where)


def test_settings_keep_what_was_added_and_read_records_from_before():
    record = (AddedLora("high_noise", "fast.safetensors", "0123", 0.5), AddedLora("low_noise", "b", "4567", -1.0))
    found = replace(Case(9, (), 16, 16, 0).settings, lora=record)
    assert RunSettings.from_json(found.to_json()) == found
    older = json.loads(found.to_json())
    del older["lora"]
    assert RunSettings.from_json(json.dumps(older)).lora == ()


# --- exchanged in an open pipeline -----------------------------------------------------------------

BOARD, FEW = "a road", Options(frames=5, height=16, width=16, steps=2, cfg=1)


def denoised(pipeline):
    return finished_latents(pipeline.denoise(pipeline.prepare(BOARD, FEW))).latents


@pytest.mark.parametrize("lora", [{"high": "fast"}, {"high": ("fast", 0.5), "low": "fast"}, None], ids=str)
@pytest.mark.parametrize("before", [None, {"low": ("fast", 2.0)}], ids=str)
def test_exchanged_adapters_make_what_a_model_opened_with_them_makes(toy_copy, fast, before, lora):
    def named(given):
        named = {"fast": fast, ("fast", 0.5): (fast, 0.5), ("fast", 2.0): (fast, 2.0)}
        return {key: named[each] for key, each in given.items()} if given else None

    opened = Pipeline.load(toy_copy, ModelOptions(lora=named(lora)))
    exchanged = Pipeline.load(toy_copy, ModelOptions(lora=named(before))).with_lora(named(lora))
    assert exchanged.model.sizes == opened.model.sizes
    assert exchanged.model.traits == opened.model.traits
    assert exchanged.model.recorded == opened.model.recorded
    jobs = [pipeline.prepare(BOARD, FEW) for pipeline in (exchanged, opened)]
    assert jobs[0].settings == jobs[1].settings
    assert torch.equal(denoised(exchanged), denoised(opened))
    if lora != before:
        assert not torch.equal(
            denoised(exchanged), denoised(Pipeline.load(toy_copy, ModelOptions(lora=named(before))))
        )


def test_experts_are_not_opened_to_exchange_adapters(toy_copy, fast, tmp_path):
    """They could as well be elsewhere meanwhile."""
    plain = Pipeline.load(toy_copy)
    toy_copy.rename(tmp_path / "away")
    exchanged = plain.with_lora({"high": fast})
    (tmp_path / "away").rename(toy_copy)
    assert torch.equal(denoised(exchanged), denoised(Pipeline.load(toy_copy, ModelOptions(lora={"high": fast}))))
    assert plain.model.adapters.record == ()


def test_experts_are_not_hashed_again_when_adapters_are_exchanged(tmp_path, monkeypatch):
    shapes = stored_shapes(open_weights(tiny_model() / "high_noise"))
    lora = write(tmp_path / "lora.safetensors", pairs([name for name in shapes if len(shapes[name]) == 2], shapes))
    plain, hashed = Pipeline.load(shutil.copytree(tiny_model(), tmp_path / "model")), []
    without, look = denoised(plain), Hasher._hash
    monkeypatch.setattr(Hasher, "_hash", lambda self, *file: hashed.append(file[0]) or look(self, *file))
    assert not torch.equal(denoised(plain.with_lora({"high": lora})), without)
    assert hashed == []
    denoised(Pipeline.load(tmp_path / "model", ModelOptions(lora={"high": lora})))
    assert hashed  # in a model that is opened another time, they are


def test_a_file_that_is_no_adapter_is_refused_and_the_pipeline_stays_as_it_was(toy_copy, fast):
    pipeline = Pipeline.load(toy_copy, ModelOptions(lora={"high": fast}))
    with pytest.raises(CheckpointError, match="which is not a LoRA format"):
        pipeline.with_lora({"low": toy_copy / "dit_low_noise.safetensors"})
    with pytest.raises(SettingsError, match="is not an expert"):
        pipeline.with_lora({"middle": fast})
    assert [(each.expert, each.strength) for each in pipeline.model.adapters.record] == [("high_noise", 1.0)]


# --- from the command line -------------------------------------------------------------------------

TINY = ("--frames", 5, "--height", 16, "--width", 16, "--steps", 4, "--cfg", 1)


@pytest.fixture
def fast(toy_copy, tmp_path):
    """An adapter for the toy, in a folder beside it."""
    shapes = {
        name: tuple(tensor.shape) for name, tensor in load_file(toy_copy / "dit_high_noise.safetensors").items()
    }
    (tmp_path / "loras").mkdir()
    names = [name for name, shape in shapes.items() if len(shape) == 2]
    return write(tmp_path / "loras" / "fast one.safetensors", pairs(names, shapes))


def made(path):
    return RunSettings.from_json(read_metadata(path))


def pixels(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_video_says_what_was_added_and_inspect_how_to_make_it_again(run, toy_copy, fast, tmp_path):
    loras = ("--lora", f"high={fast}", "--lora", f"low={fast}:0.5")
    assert run("generate", "a road", *TINY, "--model", toy_copy, "--out", "plain.mp4").code == 0
    begun = run("generate", "a road", *TINY, "--model", toy_copy, "--out", "fast.mp4", *loras)
    assert begun.code == 0
    assert [line for line in begun.err.splitlines() if "LoRA" in line] == [
        f"LoRA: {fast.name} at strength 1, in the high-noise expert",
        f"LoRA: {fast.name} at strength 0.5, in the low-noise expert",
    ]
    fingerprint = open_weights(fast).fingerprint[:16]
    assert made(tmp_path / "fast.mp4").lora == (
        AddedLora("high_noise", fast.name, fingerprint, 1.0),
        AddedLora("low_noise", fast.name, fingerprint, 0.5),
    )
    assert made(tmp_path / "plain.mp4").lora == ()
    printed = run("inspect", "fast.mp4").out
    assert f"# {fast.name}: the LoRA with fingerprint {fingerprint}; put its folder in front of its name" in printed
    (again,) = [line.lstrip("# ") for line in printed.splitlines() if line.startswith("#   holo-lite generate")]
    (tmp_path / "storyboard.toml").write_text(printed, encoding="utf-8")
    shutil.copy(fast, tmp_path)  # so that its name alone finds it
    _, *words = shlex.split(again.replace("--model FOLDER", f"--model {toy_copy}"))
    assert run(*words).code == 0
    one, other, without = (pixels(tmp_path / f"{name}.mp4") for name in ("fast", "storyboard", "plain"))
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert any((a != b).any() for a, b in zip(one, without, strict=True))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--lora", "fast.safetensors"), "--lora 'fast.safetensors': write high=FILE or low=FILE"),
        (("--lora", "high=x.safetensors:much"), "the strength 'much' is not a number"),
        (("--lora", "low=x.safetensors"), "x.safetensors: no such file"),
        (
            ("--lora", "low=model/dit_low_noise.safetensors"),
            "which is not a LoRA format that holo-lite knows; merge it first",
        ),
    ],
)
@pytest.mark.parametrize("command", ["generate", "evaluate"])
def test_mistakes_are_one_line(run, toy_copy, command, words, said):
    outcome = run(command, *(["a road"] if command == "generate" else []), "--model", toy_copy, *words)
    assert outcome.code == 2
    assert outcome.out == ""
    assert said in outcome.err.splitlines()[-1]
    assert len(outcome.err.splitlines()) == 1


def test_the_gate_reads_a_model_with_its_adapters(run, toy_copy, fast):
    """Beside the model without them, which makes other clips of the same noise."""
    size = ("--height", 32, "--width", 64, "--steps", 1, "--cfg", 1, "--storyboards", 1)
    outcome = run("evaluate", "--model", toy_copy, "--baseline", toy_copy, *size, "--lora", f"high={fast}")
    assert outcome.code == 0
    found = json.loads(outcome.out.splitlines()[-1])
    assert [(each["expert"], each["strength"]) for each in found["lora"]] == [("high_noise", 1.0)]
    assert found["likeness"]["latents"]["value"] > 0.01
