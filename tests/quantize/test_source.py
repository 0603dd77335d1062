"""Whatever kind of file goes in, finite tensors under the model's own names come out."""

import json
import math
import struct
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from resident import resident
from safetensors.torch import save_file

from holo_lite.errors import CheckpointError
from holo_lite.lora.file import open_lora
from holo_lite.weights.files import open_weights
from holo_lite.weights.finite import check_finite
from quantize import source as source_module
from quantize.source import Source

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
NAME = "blocks.0.ffn.0.weight"
MODULE = "blocks.0.ffn.0"


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stored(tmp_path, tensors, name="a.safetensors"):
    save_file(tensors, tmp_path / name)
    return tmp_path / name


def source_of(tmp_path, tensors, **options):
    return Source(open_weights(stored(tmp_path, tensors)), **options)


def identity(names):
    return {name: name for name in names}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_plain_tensor_is_as_the_file_has_it(tmp_path, dtype):
    weight = normal(8, 6).to(dtype)
    source = source_of(tmp_path, {f"model.{NAME}": weight})
    assert source.entries[NAME].dtype == dtype
    assert torch.equal(source.load(NAME), weight)
    assert torch.equal(source.load(NAME, slice(2, 5)), weight[2:5])


def test_a_pickled_file_serves_too(tmp_path):
    weight = normal(8, 6)
    torch.save({NAME: weight}, tmp_path / "a.pth")
    assert torch.equal(Source(open_weights(tmp_path / "a.pth")).load(NAME), weight)


def test_double_precision_becomes_single(tmp_path):
    weight = normal(8, 6).double()
    source = source_of(tmp_path, {NAME: weight})
    assert source.entries[NAME].dtype == torch.float32
    assert torch.equal(source.load(NAME), weight.float())


@pytest.mark.parametrize("fp8", [E4M3, E5M2])
def test_8_bit_floats_without_a_scale_are_only_widened(tmp_path, fp8):
    weight = normal(8, 6).to(fp8)
    source = source_of(tmp_path, {NAME: weight})
    assert source.entries[NAME].dtype == torch.bfloat16
    assert torch.equal(source.load(NAME), weight.to(torch.bfloat16))


SCALES = {
    "one, no dimension": torch.tensor(0.37),
    "one": torch.tensor([0.37]),
    "one, two dimensions": torch.tensor([[0.37]]),
    "rows": torch.linspace(0.1, 3, 8),
    "rows, two dimensions": torch.linspace(0.1, 3, 8)[:, None],
    "blocks of rows": torch.linspace(0.1, 3, 24).view(8, 3, 1),
    "rows in bf16": torch.linspace(0.1, 3, 8).bfloat16(),
}


@pytest.mark.parametrize("fp8", [E4M3, E5M2])
@pytest.mark.parametrize("leaf", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("kind", SCALES)
def test_a_scaled_weight_is_multiplied_out(tmp_path, kind, leaf, fp8):
    weight, scale = normal(8, 6).to(fp8), SCALES[kind]
    source = source_of(tmp_path, {f"{MODULE}.{leaf}": scale, NAME: weight})
    spread = scale.float().reshape(-1, 1) if scale.ndim < 3 else scale.squeeze(2).repeat_interleave(2, dim=1)
    expected = (weight.float() * spread).to(torch.bfloat16)
    assert torch.equal(source.load(NAME), expected)
    assert torch.equal(source.load(NAME, slice(3, 7)), expected[3:7])


def test_a_convolutions_rows_are_scaled(tmp_path):
    weight, scale = normal(8, 3, 1, 2, 2).to(E4M3), torch.linspace(0.1, 3, 8)
    source = source_of(tmp_path, {"patch_embedding.weight": weight, "patch_embedding.scale_weight": scale})
    expected = (weight.float() * scale.view(8, 1, 1, 1, 1)).to(torch.bfloat16)
    assert torch.equal(source.load("patch_embedding.weight"), expected)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_markers_and_activation_scales_are_passed_over(tmp_path, prefix):
    marker = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)
    tensors = {
        f"{prefix}{NAME}": normal(8, 6).to(E4M3),
        f"{prefix}{MODULE}.scale_weight": torch.tensor(2.0),
        f"{prefix}{MODULE}.scale_input": torch.tensor(3.0),
        f"{prefix}{MODULE}.comfy_quant": marker,
        f"{prefix}blocks.0.ffn.2.input_scale": torch.tensor(3.0),
        f"{prefix}head.head.bias": normal(4),
        "scaled_fp8": torch.zeros(2).to(E4M3),
    }
    source = source_of(tmp_path, tensors)
    assert set(source.entries) == {NAME, "head.head.bias"}
    assert torch.equal(source.load(NAME), (2 * tensors[f"{prefix}{NAME}"].float()).to(torch.bfloat16))


def test_the_text_encoders_vocabulary_is_passed_over(tmp_path):
    tensors = {"shared.weight": normal(4, 4), "spiece_model": torch.zeros(9, dtype=torch.uint8)}
    assert set(source_of(tmp_path, tensors, names=identity).entries) == {"shared.weight"}


def test_a_scale_without_a_weight_stays_to_be_found_superfluous(tmp_path):
    source = source_of(tmp_path, {NAME: normal(8, 6), "blocks.0.ffn.2.scale_weight": torch.tensor(2.0)})
    assert set(source.entries) == {NAME, "blocks.0.ffn.2.scale_weight"}


@pytest.mark.parametrize("shape", [(7,), (6,), (8, 2), (8, 5, 1), (4, 3, 1), (1, 6)])
def test_a_scale_of_an_unknown_shape_is_told(tmp_path, shape):
    with pytest.raises(CheckpointError, match=rf"the scale {MODULE}\.scale_weight of .* is of an unknown kind"):
        source_of(tmp_path, {NAME: normal(8, 6).to(E4M3), f"{MODULE}.scale_weight": torch.ones(shape)})


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"format": "nvfp4"}', "says the format is 'nvfp4'"), (b"{", "is damaged"), (b"[]", r"format is \[\]")],
)
def test_a_marker_of_another_format_is_told(tmp_path, content, message):
    marker = torch.tensor(list(content), dtype=torch.uint8)
    with pytest.raises(CheckpointError, match=message):
        source_of(tmp_path, {NAME: normal(8, 6).to(E4M3), f"{MODULE}.comfy_quant": marker})


def test_weights_that_are_no_floats_are_named(tmp_path):
    tensors = {f"blocks.{i}.ffn.0.weight": torch.zeros(4, 4, dtype=torch.int8) for i in range(5)}
    with pytest.raises(CheckpointError, match=r"in blocks\.0\..* \(int8\), .* and 2 more; take the bf16") as caught:
        source_of(tmp_path, tensors)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_number_that_is_none_is_found_and_its_tensor_named(tmp_path, dtype, bad):
    weight = normal(8, 6).to(dtype)
    weight[5, 1] = bad
    source = source_of(tmp_path, {NAME: weight, "head.head.bias": normal(4)})
    with pytest.raises(CheckpointError, match=rf"a\.safetensors: tensor {NAME} holds NaN or Inf"):
        source.load(NAME)
    with pytest.raises(CheckpointError, match="NaN or Inf"):
        source.load(NAME, slice(4, 6))
    source.load("head.head.bias")


def test_not_a_number_in_8_bits_or_in_a_scale_is_found(tmp_path):
    weight = normal(8, 6)
    weight[2, 2] = float("nan")
    spoilt = {NAME: weight.to(E4M3)}
    with pytest.raises(CheckpointError, match=NAME):
        source_of(tmp_path, spoilt).load(NAME)
    scaled = {NAME: normal(8, 6).to(E4M3), f"{MODULE}.scale_weight": torch.tensor(float("inf"))}
    with pytest.raises(CheckpointError, match=NAME):
        source_of(tmp_path, scaled).load(NAME)


def test_a_scale_that_drives_a_weight_past_16_bits_is_found(tmp_path):
    tensors = {NAME: torch.full((2, 2), 400.0).to(E4M3), f"{MODULE}.scale_weight": torch.tensor(3e38)}
    with pytest.raises(CheckpointError, match=NAME):
        source_of(tmp_path, tensors).load(NAME)


def test_the_largest_numbers_are_finite_and_nothing_is_too():
    check_finite(torch.full((4, 4), torch.finfo(torch.bfloat16).max, dtype=torch.bfloat16), "it")
    check_finite(torch.empty(0, 4), "it")


def test_a_scalar_and_an_empty_tensor_pass(tmp_path):
    source = source_of(tmp_path, {"one": torch.tensor(2.0).to(E4M3), "none": torch.empty(0, 4)}, names=identity)
    assert source.load("one").item() == 2
    assert source.load("none").shape == (0, 4)


def test_slices_give_what_the_whole_gives(tmp_path, monkeypatch):
    tensors = {NAME: normal(40, 6).to(E4M3), f"{MODULE}.scale_weight": torch.linspace(0.1, 3, 40)}
    source = source_of(tmp_path, tensors)
    whole = source.load(NAME)
    monkeypatch.setattr(source_module, "SLICE", 40)
    assert torch.equal(source.load(NAME), whole)
    monkeypatch.setattr(source_module, "SLICE", 1)  # less than a row
    assert torch.equal(source.load(NAME), whole)


def write_gguf(path, tensors):
    writer = GGUFWriter(path, "wan")
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, quants.quantize(data.numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_gguf_is_unpacked_and_its_plain_tensors_stay(tmp_path):
    weight, bias = normal(64, 256), normal(64)
    tensors = {
        f"model.diffusion_model.{NAME}": (weight, GGMLQuantizationType.Q8_0),
        f"model.diffusion_model.{MODULE}.bias": (bias.half(), GGMLQuantizationType.F16),
    }
    path = write_gguf(tmp_path / "a.gguf", tensors)
    source = Source(open_weights(path))
    assert source.entries[NAME].dtype == torch.float32
    assert float((source.load(NAME) - weight).abs().max()) < 0.03
    assert torch.equal(source.load(NAME, slice(9, 33)), source.load(NAME)[9:33])
    assert source.entries[f"{MODULE}.bias"].dtype == torch.float16
    assert torch.equal(source.load(f"{MODULE}.bias"), bias.half())
    spoilt = normal(64, 256)
    spoilt[3, 3] = float("inf")
    bad = write_gguf(tmp_path / "b.gguf", {NAME: (spoilt, GGMLQuantizationType.F32)})
    with pytest.raises(CheckpointError, match=NAME):
        Source(open_weights(bad)).load(NAME)


def lora_for(tmp_path, name=MODULE, rows=8, columns=6, seed=7, strength=1.0):
    up, down = normal(rows, 2, seed=seed), normal(2, columns, seed=seed + 1)
    tensors = {f"diffusion_model.{name}.lora_up.weight": up, f"diffusion_model.{name}.lora_down.weight": down}
    return open_lora(stored(tmp_path, tensors, f"lora{seed}.safetensors"), strength), up @ down


@pytest.mark.parametrize(
    ("dtype", "merged"),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.bfloat16),
        (E4M3, torch.bfloat16),
        (torch.float64, torch.float32),
    ],
)
def test_an_adapter_is_added_in_float32_and_rounded_once(tmp_path, dtype, merged):
    weight, bias = normal(8, 6).to(dtype), normal(8).half()
    lora, delta = lora_for(tmp_path)
    source = source_of(tmp_path, {NAME: weight, f"{MODULE}.bias": bias}, loras=[lora])
    assert source.entries[NAME].dtype == source.load(NAME).dtype == merged
    assert torch.equal(source.load(NAME), (weight.float() + delta).to(merged))
    assert torch.equal(source.load(f"{MODULE}.bias"), bias)


def test_several_adapters_add_up_over_a_scaled_weight(tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "SLICE", 18)
    (one, first), (two, second) = lora_for(tmp_path, strength=0.5), lora_for(tmp_path, seed=20, strength=-2.0)
    tensors = {NAME: normal(8, 6).to(E4M3), f"{MODULE}.scale_weight": torch.linspace(0.1, 3, 8)}
    source = source_of(tmp_path, tensors, loras=[one, two])
    expected = tensors[NAME].float() * tensors[f"{MODULE}.scale_weight"][:, None] + 0.5 * first - 2 * second
    assert source.load(NAME).dtype == torch.bfloat16
    torch.testing.assert_close(source.load(NAME).float(), expected, rtol=2**-8, atol=1e-5)


def test_an_adapter_over_gguf(tmp_path):
    weight = normal(64, 256)
    lora, delta = lora_for(tmp_path, rows=64, columns=256)
    path = write_gguf(tmp_path / "a.gguf", {NAME: (weight, GGMLQuantizationType.Q8_0)})
    merged, plain = Source(open_weights(path), loras=[lora]), Source(open_weights(path))
    torch.testing.assert_close(merged.load(NAME), plain.load(NAME) + delta)


def test_the_files_own_pages_are_not_written_to(tmp_path):
    weight = normal(8, 6)
    lora, _ = lora_for(tmp_path)
    source = source_of(tmp_path, {NAME: weight}, loras=[lora])
    assert torch.equal(source.load(NAME), source.load(NAME))
    assert torch.equal(source.file.load(NAME), weight)


def test_an_adapter_for_another_model_is_refused_at_once(tmp_path):
    lora, _ = lora_for(tmp_path, columns=7)
    with pytest.raises(CheckpointError, match=r"is not a LoRA for this model"):
        source_of(tmp_path, {NAME: normal(8, 6)}, loras=[lora])


def test_a_sum_that_is_no_number_names_file_and_tensor(tmp_path):
    up, down = torch.full((8, 2), 3e38), torch.full((2, 6), 1.0)
    tensors = {f"{MODULE}.lora_up.weight": up, f"{MODULE}.lora_down.weight": down}
    lora = open_lora(stored(tmp_path, tensors, "lora.safetensors"), 1.0)
    with pytest.raises(CheckpointError, match=rf"lora\.safetensors: what it adds to {NAME} holds NaN or Inf"):
        source_of(tmp_path, {NAME: normal(8, 6)}, loras=[lora]).load(NAME)


def test_the_fingerprint_knows_the_adapters_and_their_strength(tmp_path):
    file = open_weights(stored(tmp_path, {NAME: normal(8, 6)}))
    sources = [
        (),
        (lora_for(tmp_path)[0],),
        (lora_for(tmp_path, strength=0.5)[0],),
        (lora_for(tmp_path, seed=20)[0],),
    ]
    prints = [Source(file, loras=loras).fingerprint for loras in sources]
    assert len(set(prints)) == 4
    assert prints[0] == file.fingerprint


# Memory


def holes(path, layout):
    """A safetensors file without content, for tensors given as name → (dtype's name, bytes a number, shape)."""
    entries, place = {}, 0
    for name, (dtype, itemsize, shape) in layout.items():
        end = place + itemsize * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + place)
    return path


def name_of(number):
    return f"blocks.{number}.ffn.0.weight"


def test_one_tensor_of_a_large_file_costs_its_own_size(tmp_path):
    layout = {name_of(number): ("BF16", 2, (4096, 4096)) for number in range(100)}  # 3.4 GB, all of it holes
    source = Source(open_weights(holes(tmp_path / "large.safetensors", layout)))
    before = resident()
    tensor = source.load(name_of(50))
    loaded = resident()
    assert loaded.anonymous - before.anonymous < tensor.nbytes + 4 * 2**20
    assert loaded.file - before.file < 4 * 2**20
    del tensor
    assert resident().anonymous - before.anonymous < 4 * 2**20


def test_what_was_computed_leaves_nothing_of_its_input_behind(tmp_path):
    layout = {name_of(number): ("F8_E4M3", 1, (4096, 4096)) for number in range(100)}
    layout |= {name_of(number).replace("weight", "scale_weight"): ("F32", 4, (4096,)) for number in range(100)}
    source = Source(open_weights(holes(tmp_path / "large.safetensors", layout)))
    source.load(name_of(49))
    before = resident()
    tensor = source.load(name_of(50))
    after = resident()
    assert after.file - before.file < 2 * 2**20
    assert after.anonymous - before.anonymous < tensor.nbytes + 24 * 2**20


def test_the_real_layout_is_a_source(tmp_path):
    """Every key and shape of the released expert, in holes: only the header is read."""
    real = json.loads((Path(__file__).parents[1] / "checkpoints" / "dit_14b.json").read_text())
    layout = {f"model.diffusion_model.{name}": ("BF16", 2, shape) for name, shape in real.items()}
    path = holes(tmp_path / "sparse_high_noise.safetensors", layout)
    source = Source(open_weights(path))
    assert {name: list(entry.shape) for name, entry in source.entries.items()} == real
    assert source.load("blocks.39.norm3.bias").count_nonzero() == 0
