"""A packed model computes what the model does, within its scheme's bound, and holds little more than its file."""

import weakref
from collections import Counter

import parity
import pytest
import torch
from conversions import DATA, SIZES, convert, expert_weights, write_source
from file_experts import FileExperts
from live_bytes import LiveBytes
from safetensors.torch import load_file

from holo_lite.config import Defaults
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.layers import TextRows
from holo_lite.model.linear import Linear, Packed, pack_linears
from holo_lite.model.load import load_expert
from holo_lite.schemes.registry import SCHEMES, find
from holo_lite.story.shots import ShotLayout
from holo_lite.text.encoder import TextEncoder
from holo_lite.weights.folder import ModelFolder
from quantize import job
from quantize.inputs import plan_conversion
from quantize.recipe import Recipe

CPU, FP32, BF16 = torch.device("cpu"), torch.float32, torch.bfloat16
FORWARD = {
    "bf16": 0.005,
    "int8": 0.01,
    "qint8": 0.01,
    "nf4": 0.13,
    "nf4-single": 0.13,
    "qint4": 0.13,
    "qfloat8": 0.04,
}
PACKED = [name for name in SCHEMES if name != "bf16"]
LAYOUT = ShotLayout((0, 2), 4, 4, 6)
CLIP = Clip(LAYOUT, "sparse", Chunks(attention=5, feed_forward=7))  # many chunks


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The reference's high-noise expert and its text encoder under every scheme, converted when first asked for."""
    home, made = tmp_path_factory.mktemp("packed"), set()
    (home / "tokenizer.json").write_text("{}")
    expert, encoder, vae = (DATA / f"{name}.safetensors" for name in ("dit_high_noise", "text_encoder", "vae"))
    folder = ModelFolder(home, "sparse", expert, expert, encoder, vae, home / "tokenizer.json", Defaults())

    def model(role, scheme):
        out = home.parent / f"{home.name}-{role}-{scheme}"
        if out not in made:
            made.add(out)
            list(job.run_conversion(plan_conversion(folder, out, Recipe(scheme), device=CPU, roles=(role,))))
        return out / role

    return model


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The small published model in nf4."""
    source = write_source(tmp_path_factory.mktemp("small") / "source")
    convert(source, source.parent / "nf4", "nf4")
    return source.parent / "nf4"


def forwards(model):
    """The reference's forwards, once more."""
    tensors = load_file(DATA / "dit_forward.safetensors")
    for row in parity.read(DATA / "dit_forward.json"):
        latents = tensors[f"{row['layout']}.latents"][0]
        windows = parity.window_rows(DATA, row["prompt_index"]) if row["windowed"] else None
        text = TextRows(model.embed_text(tensors[f"{row['layout']}.context"][0]), windows)
        clip = parity.clip_of(row, 8 * latents.shape[2], 8 * latents.shape[3])
        (velocity,) = model(latents, torch.tensor(row["timestep"]), [text], clip)
        yield velocity, tensors[row["key"]][0]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_forward_is_within_the_schemes_bound(models, scheme):
    model = load_expert(models("high_noise", scheme), dtype=FP32, device=CPU)
    with torch.inference_mode():
        errors = [relative(found, expected) for found, expected in forwards(model)]
    assert len(errors) > 5
    assert max(errors) <= FORWARD[scheme]
    assert min(errors) > 0


@pytest.mark.parametrize("scheme", PACKED)
def test_the_packed_text_encoder_is_one_with_the_unpacked_weights(models, scheme):
    """To the bit, so that its error is the weights' own. How much of that its attention, which has no scale, makes
    of random weights is no measure of a scheme."""
    given = load_file(DATA / "text_encoder_forward.safetensors")
    ids = given["ids"][0][given["mask"][0].bool()].tolist()
    packed = TextEncoder.load(models("text_encoder", scheme), dtype=FP32, device=CPU)
    plain = TextEncoder.load(DATA / "text_encoder.safetensors", dtype=FP32, device=CPU)
    before = plain.encode(ids)
    for block, ours in zip(plain.blocks, packed.blocks, strict=True):
        for name, tensor in ours.named_parameters():  # norms, and weights the scheme cannot hold, were rounded
            block.get_parameter(name).data = tensor
        for name, module in ours.named_modules():
            if isinstance(module, Packed):
                block.get_parameter(name).data = module.unpack(FP32)
    plain._embedding = packed._embedding
    plain._module.encoder.final_layer_norm.weight.data = packed._module.encoder.final_layer_norm.weight
    found = packed.encode(ids)
    assert torch.equal(found, plain.encode(ids))
    assert 0 < relative(found, before) < 0.5


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("scheme", PACKED)
def test_in_bf16_it_computes_with_the_weights_unpacked_in_bf16(models, scheme):
    """The same bits as a plain model whose weights were unpacked before."""
    packed = load_expert(models("high_noise", scheme), dtype=BF16, device=CPU)
    plain = load_expert(DATA / "dit_high_noise.safetensors", dtype=BF16, device=CPU)
    for name, module in packed.named_modules():
        if isinstance(module, Packed):
            plain.get_parameter(name).data = module.unpack(BF16)
    with torch.inference_mode():
        for (found, _), (expected, _) in zip(forwards(packed), forwards(plain), strict=True):
            assert torch.equal(found, expected)


# --- how it is done --------------------------------------------------------------------------------


def linears(model):
    return {name for name, module in model.named_modules() if isinstance(module, Packed)}


def run(model, branches=2, clip=CLIP):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(16, LAYOUT.latent_frames, 8, 12, generator=generator).to(model.dtype)
    texts = [
        TextRows(torch.randn(20, model.config.dim, generator=generator).to(model.dtype)) for _ in range(branches)
    ]
    with torch.inference_mode():
        return model(latents, torch.tensor(500.0), texts, clip)


@pytest.mark.parametrize("branches", [1, 2])
def test_a_weight_is_unpacked_once_a_forward_however_many_branches_and_chunks(small, monkeypatch, branches):
    model = load_expert(small / "high_noise", dtype=BF16, device=CPU)
    names, counted = {module: name for name, module in model.named_modules()}, Counter()
    unpack = Packed.unpack

    def counting(module, dtype):
        counted[names[module]] += 1
        return unpack(module, dtype)

    monkeypatch.setattr(Packed, "unpack", counting)
    run(model, branches)
    assert counted == Counter(dict.fromkeys(linears(model), 1))
    assert len(counted) == 10 * SIZES.num_layers
    run(model, branches)
    assert set(counted.values()) == {2}


def test_only_one_layers_weights_stand_unpacked_at_a_time(small, monkeypatch):
    model = load_expert(small / "high_noise", dtype=BF16, device=CPU)
    names, alive, together = {module: name for name, module in model.named_modules()}, {}, set()
    unpack = Packed.unpack

    def watching(module, dtype):
        weight, name = unpack(module, dtype), names[module]
        layer = ".".join(name.split(".")[:3])  # blocks.0.ffn
        alive[name] = layer
        weakref.finalize(weight.untyped_storage(), alive.pop, name)
        together.add(frozenset(alive.values()))
        return weight

    monkeypatch.setattr(Packed, "unpack", watching)
    run(model)
    parts = ("self_attn", "cross_attn", "ffn")
    assert together == {frozenset({f"blocks.{i}.{part}"}) for i in range(SIZES.num_layers) for part in parts}
    assert alive == {}


def test_a_forward_takes_no_more_than_one_layer_beside_what_the_plain_model_takes(small):
    """By an allocator's count; unpacking a slice takes some temporaries more."""
    packed = load_expert(small / "high_noise", dtype=BF16, device=CPU)
    plain = load_expert(small.parent / "source" / "sparse_high_noise.safetensors", dtype=BF16, device=CPU)
    peaks = []
    for model in (plain, packed):
        run(model)  # what is made once is made
        with LiveBytes() as live:
            live.ignore(*model.parameters(), *model.buffers())
            run(model)
        peaks.append(live.peak)
    weights = expert_weights()
    attention = 4 * weights["blocks.0.self_attn.q.weight"].nbytes
    largest = weights["blocks.0.ffn.0.weight"].numel()
    assert peaks[1] - peaks[0] <= attention + 12 * largest
    everything = sum(weights[f"{name}"].nbytes for name in linears(packed))
    assert everything > 3 * (attention + 12 * largest) / 2  # so that the bound tells something


def test_stored_parts_keep_their_dtype_whatever_the_model_computes_in(small):
    for dtype in (FP32, BF16):
        model = load_expert(small / "low_noise", dtype=dtype, device=CPU)
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}
        assert {buffer.dtype for buffer in model.buffers()} == {torch.uint8, FP32}
        assert {velocity.dtype for velocity in run(model)} == {dtype}


def test_the_experts_of_a_run_open_from_the_folder(small):
    experts = FileExperts(small / "high_noise", small / "low_noise", BF16, CPU)
    with experts.lend("high_noise") as model:
        first = run(model)[0]
    with experts.lend("low_noise") as model:
        assert not torch.equal(run(model)[0], first)


# --- packing modules -------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_packed_layer_is_its_unpacked_weight(scheme, bias):
    weight, x = torch.randn(96, 128), torch.randn(5, 128)
    with torch.device("meta"):
        module = torch.nn.Sequential(Linear(128, 96, bias=bias), torch.nn.Linear(128, 96, bias=bias))
        pack_linears(module, {"0.weight": scheme, "1.weight": scheme})
    parts, added = find(scheme).pack(weight), torch.randn(96) if bias else None
    state = {f"{index}.weight.{name}": part for index in (0, 1) for name, part in parts.items()}
    state |= {f"{index}.bias": added for index in (0, 1)} if added is not None else {}
    module.load_state_dict(state, assign=True)
    expected = torch.nn.functional.linear(x, find(scheme).unpack(parts, (96, 128), FP32), added)
    for layer in module:
        assert torch.equal(layer(x), expected)
        assert layer(x.bfloat16()[None].to(FP32 if bias else BF16)).shape == (1, 5, 96)


def test_modules_without_memory_stay_without():
    with torch.device("meta"):
        module = torch.nn.Sequential(Linear(128, 96))
        pack_linears(module, {"0.weight": "nf4", "1.weight": "nf4", "0": "nf4", "0.bias": "nf4"})
    assert {tensor.device.type for tensor in module.state_dict().values()} == {"meta"}
    assert set(module.state_dict()) == {"0.bias", *(f"0.weight.{part}" for part in find("nf4").parts((96, 128)))}
