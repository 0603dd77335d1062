"""Whatever files people have become one kind of folder, which holds what docs/format.md says and nothing else."""

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from conversions import (
    BLOCKS,
    DATA,
    EXPERTS,
    SIZES,
    contents,
    convert,
    copied,
    encoder_weights,
    expert_weights,
    is_linear,
    notes,
    plan,
    stored,
    vae_weights,
    write_gguf,
    write_source,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tensor_files import same

from holo_lite.config import DiTConfig
from holo_lite.errors import CheckpointError, OutputError
from holo_lite.film.vae import load_vae
from holo_lite.film.vae_files import diffusers_names
from holo_lite.model.load import load_expert
from holo_lite.progress import PhaseAdvanced, PhaseStarted
from holo_lite.schemes.registry import SCHEMES, find
from holo_lite.text.encoder_files import module_names
from holo_lite.weights.manifest import FILE_NAME, read_manifest
from holo_lite.weights.names import IN_BLOCK, OUTSIDE
from quantize import convert as convert_module, job, quality
from quantize.convert import ConversionFinished, verify
from quantize.quality import relative_error
from quantize.recipe import Recipe, Rule

ROOT = Path(__file__).parents[2]
PACKED = [name for name in SCHEMES if name != "bf16"]
BF16, FP32 = torch.bfloat16, torch.float32
NAME = "blocks.0.ffn.0.weight"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("convert") / "source")


@pytest.fixture(scope="module")
def models(source):
    """The source under every scheme, converted when first asked for."""
    made = {}

    def model(scheme):
        if scheme not in made:
            made[scheme] = source.parent / scheme
            convert(source, made[scheme], scheme)
        return made[scheme]

    return model


@pytest.fixture
def own(source, tmp_path):
    """A copy of the source to change."""
    return copied(source, tmp_path / "own")


def refused(call, kind=CheckpointError):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).isprintable()
    return str(caught.value)


def originals(role):
    """The source's tensors by the names a converted model has."""
    if role in EXPERTS:
        return expert_weights(EXPERTS.index(role))
    vae = role == "vae"
    weights = vae_weights() if vae else encoder_weights()
    names = diffusers_names(weights) if vae else module_names(weights)
    return {names[name]: tensor for name, tensor in weights.items()}


# --- the folder ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_folder_is_as_the_document_says(models, source, scheme):
    out = models(scheme)
    manifest = read_manifest(out)
    expected = {FILE_NAME, "quality.json", "tokenizer.json", "vae/config.json"}
    expected |= {"vae/diffusion_pytorch_model.safetensors"}
    expected |= {f"{role}/{name}.safetensors" for role in EXPERTS for name in ("rest", *blocks(BLOCKS))}
    expected |= {f"text_encoder/{name}.safetensors" for name in ("rest", *blocks(2))}
    files = contents(out)
    assert set(files) == expected
    assert files["tokenizer.json"] == (source / "tokenizer.json").read_bytes()
    assert (manifest.scheme, manifest.attention) == (scheme, "sparse")
    assert manifest.recipe["fingerprint"] == plan(source, out, scheme).fingerprint
    assert "CC BY-NC-SA 4.0" in manifest.licence
    assert set(manifest.tools) == {"holo-lite", "torch", "bitsandbytes", "optimum-quanto", "gguf"}
    for component in manifest.components.values():
        for shard in component.shards:
            assert len(files[shard.file]) == shard.nbytes
            assert hashlib.sha256(files[shard.file]).hexdigest() == shard.sha256
    for name, sha256 in manifest.files.items():
        assert hashlib.sha256(files[name]).hexdigest() == sha256


def blocks(count):
    return [f"block-{index:02}" for index in range(count)]


def test_the_manifest_names_its_sources_with_their_hashes(models, source):
    found = {file.file: (file.nbytes, file.sha256) for file in read_manifest(models("nf4")).sources}
    weights = [path for path in source.iterdir() if path.name != "tokenizer.json"]
    assert found == {path.name: (path.stat().st_size, sha256_of(path)) for path in weights}


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("role", [*EXPERTS, "text_encoder", "vae"])
def test_every_tensor_is_what_its_scheme_makes_of_it(models, scheme, role):
    out = models(scheme)
    component, found = read_manifest(out).components[role], stored(out, role)
    weights = originals(role)
    assert set(component.tensors) == set(weights)
    expected = {}
    for name, weight in weights.items():
        record = component.tensors[name]
        assert (record.shape, record.dtype) == (tuple(weight.shape), str(weight.dtype).removeprefix("torch."))
        if role != "vae" and is_linear(name, weight) and scheme != "bf16" and not find(scheme).fits(record.shape):
            assert record.scheme == scheme
            parts = find(scheme).pack(weight)
            expected |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
        else:
            assert record.scheme == "plain"
            expected[name] = weight if role == "vae" else weight.to(BF16)
    same(found, expected)


@pytest.mark.parametrize("role", [*EXPERTS, "text_encoder"])
def test_blocks_are_files_in_the_order_in_which_they_run(models, role):
    out = models("nf4")
    shards = read_manifest(out).components[role].shards
    assert [shard.block for shard in shards] == [None, *range(len(shards) - 1)]
    for shard in shards[1:]:
        with safe_open(out / shard.file, "pt") as file:
            names = [name for name in file.offset_keys() if not name.startswith("filler.")]
        marker = f"blocks.{shard.block}." if role in EXPERTS else f"encoder.block.{shard.block}."
        assert all(name.startswith(marker) for name in names)
        order = ["self_attn", "cross_attn", "ffn"] if role in EXPERTS else ["layer.0", "layer.1"]
        places = [[names.index(name) for name in names if part in name] for part in order]
        assert [max(place) for place in places[:-1]] < [min(place) for place in places[1:]]


def test_the_vae_keeps_its_bits_and_its_dtype_and_decodes_the_same(models, own, tmp_path):
    latents = load_file(DATA / "vae_decode.safetensors")["latents"][0, :, 0, :4, :4]
    halves = {name: tensor.half() for name, tensor in vae_weights().items()}
    (own / "Wan2.1_VAE.pth").unlink()
    save_file(halves, own / "Wan2.1_VAE.safetensors")
    convert(own, tmp_path / "out", roles=("vae",))
    names = diffusers_names(halves)
    same(stored(tmp_path / "out", "vae"), {names[name]: t for name, t in halves.items()})
    vae, before = (
        load_vae(path, dtype=FP32, device=torch.device("cpu"))
        for path in (models("nf4") / "vae", DATA / "vae.safetensors")
    )
    assert vae.config == before.config
    z = vae.decoder_input(latents)
    with torch.inference_mode():
        first, second = (next(iter(each.advance(z, each.new_cache()))) for each in (vae, before))
    assert torch.equal(first, second)


def test_two_conversions_are_the_same_bytes_from_wherever_and_whenever(models, own, tmp_path):
    for path in own.iterdir():
        os.utime(path, (1, 1))
    convert(own, tmp_path / "elsewhere" / "out")
    assert contents(tmp_path / "elsewhere" / "out") == contents(models("nf4"))


def test_the_toy_converts_under_every_scheme(toy_copy, tmp_path):
    for scheme in ("nf4", "qint4", "qfloat8"):
        convert(toy_copy, tmp_path / scheme, scheme)
        manifest = read_manifest(tmp_path / scheme)
        assert manifest.defaults.frames == 49
        assert manifest.components["high_noise"].config["num_heads"] == 3
        assert {t.dtype for t in manifest.components["low_noise"].tensors.values()} == {"float32"}
        plain = {t.dtype for n, t in stored(tmp_path / scheme, "low_noise").items() if n.startswith("head")}
        assert plain == {BF16}


# --- the sources -----------------------------------------------------------------------------------


def replace_expert(folder, name, tensors):
    (folder / "sparse_high_noise.safetensors").unlink()
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    (torch.save if path.suffix == ".pth" else save_file)(tensors, path)
    return path


def diffusers_name(name):
    ours = {own: theirs for theirs, own in (IN_BLOCK if name.startswith("blocks.") else OUTSIDE).items()}
    head = ".".join(name.split(".")[:2]) + "." if name.startswith("blocks.") else ""
    rest = name.removeprefix(head)
    for own_part, theirs in ours.items():
        if rest == own_part or rest.startswith(f"{own_part}."):
            return head + theirs + rest.removeprefix(own_part)
    return name


@pytest.mark.parametrize(
    ("name", "rename"),
    [
        ("sparse_high_noise.safetensors", lambda name: f"model.diffusion_model.{name}"),
        ("transformer/diffusion_pytorch_model.safetensors", diffusers_name),
        ("sparse_high_noise.pth", lambda name: name),
        ("HoloCine-Sparse-HighNoise.safetensors", lambda name: name),
    ],
    ids=["prefix", "diffusers", "pickle", "any name"],
)
def test_names_and_containers_do_not_show_in_the_result(own, models, tmp_path, name, rename):
    replace_expert(own, name, {rename(key): tensor for key, tensor in expert_weights().items()})
    convert(own, tmp_path / "out", roles=("high_noise",))
    same(stored(tmp_path / "out", "high_noise"), stored(models("nf4"), "high_noise"))
    sources = [file.file for file in read_manifest(tmp_path / "out").sources]
    assert sources[0] == Path(name).name


def write_shards(folder, stem, tensors, count=3):
    folder.mkdir(exist_ok=True)
    names, files = sorted(tensors), {}
    for index in range(count):
        shard = f"{stem}-{index + 1:05}-of-{count:05}.safetensors"
        part = {name: tensors[name] for name in names[index::count]}
        save_file(part, folder / shard)
        files |= dict.fromkeys(part, shard)
    path = folder / f"{stem}.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": files}))
    return path


def test_diffusers_folders_with_shards_and_all_their_files_are_recorded(source, models, tmp_path):
    home = tmp_path / "diffusers"
    home.mkdir()
    for seed, name in enumerate(("transformer", "transformer_2")):
        weights = {diffusers_name(key): tensor for key, tensor in expert_weights(seed).items()}
        write_shards(home / name, "diffusion_pytorch_model", weights)
    encoder = {module_names(encoder_weights())[key]: tensor for key, tensor in encoder_weights().items()}
    write_shards(home / "text_encoder", "model", encoder, count=2)
    (home / "text_encoder" / "config.json").write_text("{}")
    (home / "vae").mkdir()
    vae = originals("vae")
    save_file(vae, home / "vae" / "diffusion_pytorch_model.safetensors")
    config = {
        "_class_name": "AutoencoderKLWan",
        "base_dim": json.loads((models("nf4") / "vae/config.json").read_text())["base_dim"],
    }
    (home / "vae" / "config.json").write_text(json.dumps(config))
    shutil.copy(source / "tokenizer.json", home)
    events = convert(home, tmp_path / "out", attention="sparse")  # the names do not tell it
    found, expected = contents(tmp_path / "out"), contents(models("nf4"))
    assert {name for name in found if found[name] != expected[name]} <= {
        FILE_NAME,
        "vae/diffusion_pytorch_model.safetensors",
    }
    same(stored(tmp_path / "out", "vae"), stored(models("nf4"), "vae"))
    recorded = [(file.file, file.nbytes, file.sha256) for file in read_manifest(tmp_path / "out").sources]
    files = [path for path in home.rglob("*") if path.is_file() and path.suffix == ".safetensors"]
    files += list(home.rglob("*.index.json"))
    assert sorted(recorded) == sorted((path.name, path.stat().st_size, sha256_of(path)) for path in files)
    (total,) = [event.total for event in events if isinstance(event, PhaseStarted) and event.phase == "hash"]
    assert total == sum(nbytes for _, nbytes, _ in recorded)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_dtypes_are_quantized_from_what_they_hold(own, tmp_path, dtype):
    weights = expert_weights(7, dtype)
    replace_expert(own, "sparse_high_noise.safetensors", weights)
    convert(own, tmp_path / "out", "int8", roles=("high_noise",))
    found = stored(tmp_path / "out", "high_noise")
    parts = find("int8").pack(weights[NAME])
    same({name: found[f"{NAME}.{name}"] for name in parts}, parts)
    assert torch.equal(found["head.head.weight"], weights["head.head.weight"].to(BF16))
    tensors = read_manifest(tmp_path / "out").components["high_noise"].tensors
    assert {tensor.dtype for tensor in tensors.values()} == {str(dtype).removeprefix("torch.")}


def test_scaled_8_bit_floats_are_multiplied_out_first(own, tmp_path):
    weights, scaled, expected = expert_weights(), {}, {}
    for name, tensor in weights.items():
        if not is_linear(name, tensor):
            scaled[name] = expected[name] = tensor
            continue
        scale = tensor.float().abs().max() / 448
        scaled[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
        scaled[name.replace("weight", "scale_weight")] = scale
        expected[name] = (scaled[name].float() * scale).to(BF16)
    scaled["scaled_fp8"] = torch.zeros(2).to(torch.float8_e4m3fn)
    replace_expert(
        own,
        "sparse_high_noise.safetensors",
        {f"model.diffusion_model.{n}": t for n, t in scaled.items() if n != "scaled_fp8"}
        | {"scaled_fp8": scaled["scaled_fp8"]},
    )
    convert(own, tmp_path / "fp8", roles=("high_noise",))
    (own / "sparse_high_noise.safetensors").unlink()
    save_file(expected, own / "sparse_high_noise.safetensors")
    convert(own, tmp_path / "plain", roles=("high_noise",))
    same(stored(tmp_path / "fp8", "high_noise"), stored(tmp_path / "plain", "high_noise"))


def test_gguf_found_by_name_is_unpacked_and_packed_again(own, tmp_path):
    (own / "sparse_high_noise.safetensors").unlink()
    numbers = write_gguf(own / "HoloCine-Sparse-HighNoise-Q4_K_M.gguf", expert_weights())
    convert(own, tmp_path / "out", "qint8", roles=("high_noise",))
    found = stored(tmp_path / "out", "high_noise")
    expected = {}
    for name, weight in numbers.items():
        if is_linear(name, weight):
            expected |= {f"{name}.{part}": t for part, t in find("qint8").pack(weight).items()}
        else:
            expected[name] = weight.to(BF16)
    same(found, expected)
    assert read_manifest(tmp_path / "out").sources[0].file == "HoloCine-Sparse-HighNoise-Q4_K_M.gguf"


def test_full_experts(own, tmp_path):
    for noise in EXPERTS:
        shutil.copy(own / f"sparse_{noise}.safetensors", own / f"full_{noise}.safetensors")
    convert(own, tmp_path / "sparse")
    convert(own, tmp_path / "full", attention="full")
    assert read_manifest(tmp_path / "sparse").attention == "sparse"
    manifest = read_manifest(tmp_path / "full")
    assert manifest.attention == "full"
    assert [file.file for file in manifest.sources[:2]] == [
        "full_high_noise.safetensors",
        "full_low_noise.safetensors",
    ]


def test_large_tensors_stored_as_they_are_go_in_slices_and_come_out_the_same(own, models, tmp_path, monkeypatch):
    slices = []
    add = convert_module.ShardWriter.add
    monkeypatch.setattr("quantize.source.SLICE", 1000)
    monkeypatch.setattr(
        convert_module.ShardWriter, "add", lambda writer, rows: (slices.append(rows.numel()), add(writer, rows))[1]
    )
    convert(own, tmp_path / "out", "bf16")
    assert max(slices) < 2000  # one row of the VAE's widest convolution
    assert contents(tmp_path / "out") == contents(models("bf16"))


# --- adapters --------------------------------------------------------------------------------------


def write_lora(path, modules, rank=4, seed=3, shapes=None):
    """A kohya adapter for some modules; gives the file and what it adds at strength 1, in float32."""
    tensors, added = {}, {}
    generator = torch.Generator().manual_seed(seed)
    for module in modules:
        rows, columns = (shapes or expert_weights())[f"{module}.weight"].shape
        up, down = torch.randn(rows, rank, generator=generator), torch.randn(rank, columns, generator=generator)
        flat = f"lora_unet_{module.replace('.', '_')}"
        tensors |= {
            f"{flat}.lora_up.weight": up,
            f"{flat}.lora_down.weight": down,
            f"{flat}.alpha": torch.tensor(2.0),
        }
        added[f"{module}.weight"] = up, down
    save_file(tensors, path)
    return added


MODULES = ("blocks.0.self_attn.q", "blocks.1.ffn.2", "head.head", "text_embedding.0")


def test_an_adapter_gives_the_bytes_of_a_source_it_was_merged_into(own, tmp_path):
    """In float32, then rounded to bf16. So it is for 8- and 16-bit sources; the next test has a float32 one."""
    added = write_lora(tmp_path / "fast.safetensors", MODULES)
    convert(
        own,
        tmp_path / "merged",
        loras={"high_noise": [(tmp_path / "fast.safetensors", 0.5)]},
        roles=("high_noise",),
    )
    weights = expert_weights()
    for name, (up, down) in added.items():
        weights[name] = (weights[name].float() + (up * (0.5 * 2 / 4)) @ down).to(BF16)
    replace_expert(own, "sparse_high_noise.safetensors", weights)
    convert(own, tmp_path / "before", roles=("high_noise",))
    found, expected = contents(tmp_path / "merged"), contents(tmp_path / "before")
    assert {name for name in expected if found[name] != expected[name]} == {FILE_NAME}
    manifest = read_manifest(tmp_path / "merged")
    assert manifest.loras == {"high_noise": ("fast.safetensors:0.5",)}
    recorded = {file.file: file.sha256 for file in manifest.sources}
    assert recorded["fast.safetensors"] == sha256_of(tmp_path / "fast.safetensors")


def test_into_a_float32_source_it_is_merged_in_float32(own, tmp_path):
    added = write_lora(tmp_path / "fast.safetensors", MODULES)
    weights = expert_weights(0, FP32)
    replace_expert(own, "sparse_high_noise.safetensors", weights)
    convert(
        own,
        tmp_path / "merged",
        "int8",
        loras={"high_noise": [(tmp_path / "fast.safetensors", 1.0)]},
        roles=("high_noise",),
    )
    up, down = added["blocks.1.ffn.2.weight"]
    parts = find("int8").pack(weights["blocks.1.ffn.2.weight"] + (up * 0.5) @ down)
    found = stored(tmp_path / "merged", "high_noise")
    same({part: found[f"blocks.1.ffn.2.weight.{part}"] for part in parts}, parts)


def test_an_adapter_changes_only_its_own_expert_and_several_add_up(own, models, tmp_path):
    for seed in (3, 4):
        write_lora(tmp_path / f"{seed}.safetensors", MODULES, seed=seed)
    both = [(tmp_path / "3.safetensors", 1.0), (tmp_path / "4.safetensors", -0.25)]
    convert(own, tmp_path / "out", loras={"low_noise": both})
    assert read_manifest(tmp_path / "out").loras == {"low_noise": ("3.safetensors:1", "4.safetensors:-0.25")}
    found, expected = contents(tmp_path / "out"), contents(models("nf4"))
    changed = {name.split("/")[0] for name in expected if found[name] != expected[name]}
    assert changed == {"low_noise", FILE_NAME, "quality.json"}


def test_an_adapter_that_fits_nothing_is_told_before_anything_is_written(own, tmp_path):
    shapes = {f"blocks.{index}.ffn.0.weight": torch.empty(320, 256) for index in range(5, 10)}
    write_lora(tmp_path / "other.safetensors", [name.removesuffix(".weight") for name in shapes], shapes=shapes)
    message = refused(
        lambda: plan(own, tmp_path / "out", loras={"high_noise": [(tmp_path / "other.safetensors", 1)]})
    )
    assert "nothing in the model matches lora_unet_blocks_5_ffn_0.lora_down.weight, " in message
    assert "and 7 more" in message
    assert not (tmp_path / "out").exists()


# --- what is wrong with a source -------------------------------------------------------------------


@pytest.mark.parametrize(
    "role", ["sparse_high_noise.safetensors", "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth"]
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_inf_are_named_and_no_model_is_left(own, tmp_path, role, bad):
    path = own / role
    weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path)
    name = sorted(weights)[5]
    weights[name].view(-1)[3] = bad
    (save_file if path.suffix == ".safetensors" else torch.save)(weights, path)
    message = refused(lambda: convert(own, tmp_path / "out"))
    assert message.startswith(f"{path}: tensor ")
    assert "holds NaN or Inf" in message
    assert not (tmp_path / "out" / FILE_NAME).exists()
    assert not list((tmp_path / "out").rglob("*.partial"))


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (
            "sparse_high_noise.safetensors",
            "has no sparse_high_noise.safetensors; download it from hlwang06/HoloCine",
        ),
        ("sparse_low_noise.safetensors", "has no sparse_low_noise.safetensors"),
        ("models_t5_umt5-xxl-enc-bf16.pth", "has no text encoder"),
        ("Wan2.1_VAE.pth", "has no VAE"),
        ("tokenizer.json", "has no tokenizer.json"),
    ],
)
def test_a_missing_file_is_named(own, tmp_path, missing, said):
    (own / missing).unlink()
    assert said in refused(lambda: plan(own, tmp_path / "out"))


def test_another_architecture_is_told(own, tmp_path):
    weights = expert_weights() | {"img_emb.proj.0.weight": torch.zeros(4, dtype=BF16)}
    replace_expert(own, "sparse_high_noise.safetensors", weights)
    assert "it is of Wan 2.1 I2V, with img_emb.proj.0.weight" in refused(lambda: plan(own, tmp_path / "out"))
    wider = DiTConfig(dim=384, num_heads=3, ffn_dim=320, num_layers=2, text_dim=64)
    save_file(expert_weights(sizes=wider), own / "sparse_high_noise.safetensors")
    assert "has other sizes than sparse_high_noise.safetensors" in refused(lambda: plan(own, tmp_path / "out"))
    wordy = dataclasses.replace(SIZES, text_dim=128)
    for noise in EXPERTS:
        save_file(expert_weights(sizes=wordy), own / f"sparse_{noise}.safetensors")
    message = refused(lambda: plan(own, tmp_path / "out"))
    assert "gives rows of 64 numbers, the experts read 128" in message
    save_file({"x": torch.zeros(3)}, own / "sparse_high_noise.safetensors")
    assert "is not a Wan 2.2 T2V A14B expert" in refused(lambda: plan(own, tmp_path / "out"))


def test_a_model_that_was_quantized_cannot_be_quantized_again(models, tmp_path):
    message = refused(lambda: plan(models("int8"), tmp_path / "out"))
    assert message == (
        f"{models('int8')}: was converted to int8 already; give the folder with the released files, "
        "or one converted to bf16"
    )


@pytest.mark.parametrize("scheme", ["int8", "nf4"])
def test_a_bf16_repack_is_as_good_a_source_as_the_released_files(models, tmp_path, scheme):
    convert(models("bf16"), tmp_path / "again", scheme)
    shards = [path.relative_to(models(scheme)) for path in models(scheme).rglob("*.safetensors")]
    assert shards
    for shard in shards:
        assert (tmp_path / "again" / shard).read_bytes() == (models(scheme) / shard).read_bytes(), shard
    manifest = read_manifest(tmp_path / "again")
    assert manifest.licence == read_manifest(models(scheme)).licence
    assert {source.sha256 for source in manifest.sources} >= {
        shard.sha256 for shard in read_manifest(models("bf16")).components["high_noise"].shards
    }


def test_a_model_may_bring_a_licence_of_its_own(own, tmp_path):
    (own / "licence.txt").write_text("Anyone may do anything.\n")
    convert(own, tmp_path / "out", "bf16")
    assert read_manifest(tmp_path / "out").licence == "Anyone may do anything."


# --- where it goes ---------------------------------------------------------------------------------


def test_what_stands_in_the_way_is_told_and_left_alone(own, models, tmp_path):
    def said(out):
        before = contents(out) if out.is_dir() else None
        message = refused(lambda: convert(own, out), OutputError)
        assert (contents(out) if out.is_dir() else None) == before
        return message.removeprefix(f"{out}: ")

    finished = copied(models("int8"), tmp_path / "finished")
    assert said(finished) == "holds a finished model; name another folder, or --verify to check it"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("x")
    assert said(tmp_path / "full") == "is not empty and holds no unfinished conversion; name another folder"
    (tmp_path / "file").write_text("x")
    assert said(tmp_path / "file") == "is a file; name a folder"
    assert "file/out" in refused(lambda: convert(own, tmp_path / "file" / "out"), OutputError)
    assert said(own) == "is the source; name another folder to write into"
    (tmp_path / "link").symlink_to(own)
    assert said(tmp_path / "link") == "is the source; name another folder to write into"
    assert said(own / "nf4") == "is inside the source; name a folder next to it"
    assert said(tmp_path / "link" / "a" / "b") == "is inside the source; name a folder next to it"


@pytest.mark.parametrize("text", ["not ours\n", '{"a": 1}\n', '{"begun": 5}\n', "[1]\n", "", "\x00\x00"])
def test_a_journal_that_is_something_else_is_left_alone(own, tmp_path, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "journal.jsonl").write_text(text)
    assert "is not the journal of a conversion" in refused(lambda: convert(own, tmp_path / "out"), OutputError)
    assert (tmp_path / "out" / "journal.jsonl").read_text() == text


def test_an_empty_folder_serves_and_folders_above_are_made(own, models, tmp_path):
    (tmp_path / "out").mkdir()
    convert(own, tmp_path / "out", "int8")
    convert(own, tmp_path / "a" / "b" / "out", "int8")
    assert contents(tmp_path / "out") == contents(tmp_path / "a" / "b" / "out") == contents(models("int8"))


def test_a_disk_too_small_is_told_before_anything_is_written(own, tmp_path, monkeypatch):
    asked = []
    room = plan(own, tmp_path / "x" / "out").nbytes + convert_module.SPARE
    usage = shutil.disk_usage(tmp_path)

    def disk_usage(path):
        asked.append(path)
        return usage._replace(free=room - 1)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    message = refused(lambda: convert(own, tmp_path / "x" / "out"), OutputError)
    assert f"needs {room / 1e6:.2f} MB of disk, {room / 1e6:.2f} MB are free; free some space or" in message
    assert asked == [tmp_path / "x" / "out"], "the disk on which the folder lies, or will"
    assert not (tmp_path / "x").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=room))
    convert(own, tmp_path / "x" / "out")


# --- quality ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", PACKED)
def test_the_report_says_what_another_computation_finds(models, scheme):
    out = models(scheme)
    report = json.loads((out / "quality.json").read_text())
    assert report["above_bound"] == []
    for role in (*EXPERTS, "text_encoder"):
        component, found, weights = read_manifest(out).components[role], stored(out, role), originals(role)
        errors = {}
        for name, tensor in component.tensors.items():
            if tensor.scheme != "plain":
                parts = {part: found[f"{name}.{part}"] for part in find(scheme).parts(tensor.shape)}
                restored = find(scheme).unpack(parts, tensor.shape, FP32).double()
                exact = weights[name].double()
                errors[name] = float((restored - exact).norm() / exact.norm())
        assert report["tensors"][role] == pytest.approx(errors, rel=1e-5)
        summary = report["summary"][role]
        assert summary["tensors"] == len(errors)
        assert summary["mean"] == pytest.approx(sum(errors.values()) / len(errors))
        assert summary["largest"] == max(report["tensors"][role].values())
    every = [
        (error, f"{role}/{name}") for role, errors in report["tensors"].items() for name, error in errors.items()
    ]
    assert [error for _, error in report["worst"]] == [error for error, _ in sorted(every, reverse=True)[:10]]
    assert {name for name, _ in report["worst"]} <= {name for _, name in every}


@pytest.mark.parametrize("scheme", ["int8", "nf4", "qint4"])
def test_the_report_runs_blocks_of_each_expert_with_both_sets_of_weights(models, scheme):
    """Once more, with whole models: the first block of what was converted, against the one of the source."""
    from holo_lite.model.clip import Clip
    from holo_lite.model.layers import TextRows
    from holo_lite.model.positions import Positions

    report = json.loads((models(scheme) / "quality.json").read_text())
    assert {role: sorted(rows) for role, rows in report["blocks"].items()} == {role: ["0", "1"] for role in EXPERTS}
    cpu = torch.device("cpu")
    for role in EXPERTS:
        outputs = []
        for path in (models(scheme) / role, models(scheme).parent / "source" / f"sparse_{role}.safetensors"):
            block = load_expert(path, dtype=FP32, device=cpu).blocks[1]
            generator = torch.Generator().manual_seed(0)
            x = torch.randn(quality.LAYOUT.tokens, SIZES.dim, generator=generator)
            rows = torch.randn(quality.TEXT_ROWS, SIZES.dim, generator=generator)
            modulation = 0.2 * torch.randn(6, SIZES.dim, generator=generator)
            before = x.clone()
            with torch.inference_mode():
                block(
                    [x],
                    [TextRows(rows)],
                    modulation,
                    Clip(quality.LAYOUT),
                    Positions.of(quality.LAYOUT, SIZES.head_dim, cpu),
                )
            outputs.append(x - before)
        error = float((outputs[0] - outputs[1]).norm() / outputs[1].norm())
        assert report["blocks"][role]["1"] == pytest.approx(error, rel=1e-4)


def test_errors_of_weights_of_zeros_and_of_results_that_are_no_numbers():
    scheme = find("int8")
    zeros = torch.zeros(4, 64)
    assert relative_error(scheme, scheme.pack(zeros), zeros) == 0
    parts = scheme.pack(torch.ones(4, 64))
    parts["absmax"][1] = float("nan")
    found = quality.Quality({"a": {"w": "int8"}}, {"a": {"w": relative_error(scheme, parts, torch.ones(4, 64))}})
    assert len(found.exceeding(1.0)) == len(found.exceeding(1.5)) == 1


@pytest.fixture
def strict(monkeypatch):
    """Lower int8's bound."""

    def lower(bound):
        schemes = SCHEMES | {"int8": dataclasses.replace(find("int8"), error_bound=bound)}
        monkeypatch.setattr("holo_lite.schemes.registry.SCHEMES", schemes)

    return lower


def all_errors(model):
    report = json.loads((model / "quality.json").read_text())
    return [error for errors in report["tensors"].values() for error in errors.values()]


def test_above_the_bound_it_warns_and_names_the_tensors(own, models, tmp_path, strict):
    every = sorted(all_errors(models("int8")))
    strict(every[-4] * 1.0000001)  # three are above
    events = convert(own, tmp_path / "out", "int8")
    warned = [note for note in notes(events) if note.startswith("slightly less accurate than usual: ")]
    assert len(warned) == 3
    assert len(json.loads((tmp_path / "out" / "quality.json").read_text())["above_bound"]) == 3
    assert read_manifest(tmp_path / "out").scheme == "int8"


def test_many_warnings_are_counted_not_listed(own, tmp_path, strict, models):
    errors = all_errors(models("int8"))
    strict(min(errors) * 0.999)
    warned = [note for note in notes(convert(own, tmp_path / "out", "int8")) if note.startswith("slightly")]
    assert len(warned) == job.NAMED + 1
    assert (
        warned[-1] == f"slightly less accurate than usual: {len(errors) - job.NAMED} more, listed in quality.json"
    )


def test_far_above_the_bound_it_fails_and_leaves_a_report_and_no_model(own, tmp_path, strict):
    strict(1e-4)
    message = refused(lambda: convert(own, tmp_path / "out", "int8"))
    assert message.startswith("not accurate enough, above 1.5 times the scheme's usual error: high_noise/blocks.0.")
    assert "usually under 0.0001" in message
    assert message.endswith("more; give these tensors another scheme in a recipe")
    assert not (tmp_path / "out" / FILE_NAME).exists()
    assert json.loads((tmp_path / "out" / "quality.json").read_text())["above_bound"]
    again = refused(lambda: convert(own, tmp_path / "out", "int8"))  # nothing is converted twice to fail again
    assert again == message


def test_a_recipe_mends_a_tensor_that_is_too_coarse(own, tmp_path):
    """Of two numbers only the larger survives in a block: int8 loses the small one, bf16 does not."""
    weights = expert_weights()
    weights[NAME][:, 0], weights[NAME][:, 1:] = 1.0, 0.0039
    replace_expert(own, "sparse_high_noise.safetensors", weights)
    message = refused(lambda: convert(own, tmp_path / "int8", "int8", roles=("high_noise",)))
    assert f": high_noise/{NAME} (" in message
    mended = Recipe("int8", {}, (Rule(NAME, "bf16"),))
    assert notes(convert(own, tmp_path / "mended", recipe=mended, roles=("high_noise",))) == []


# --- verification ----------------------------------------------------------------------------------


def test_verify_finds_any_changed_byte(models, tmp_path):
    copy = copied(models("nf4"), tmp_path / "model")
    assert notes(verify(copy)) == [f"verified: all {len(contents(copy)) - 1} files match their checksums"]
    for name, content in contents(copy).items():
        if name == FILE_NAME:
            continue
        place = len(content) // 2
        (copy / name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        message = refused(lambda: list(verify(copy)))
        assert message == f"{copy / name}: is missing or changed since it was written; convert the model again"
        (copy / name).unlink()
        assert message == refused(lambda: list(verify(copy)))
        (copy / name).write_bytes(content)
    list(verify(copy))
    (copy / FILE_NAME).unlink()
    assert "is not the manifest" in refused(lambda: list(verify(copy)))


def test_the_events_tell_how_far_it_is(own, tmp_path):
    events = convert(own, tmp_path / "out")
    begun = {event.phase: event.total for event in events if isinstance(event, PhaseStarted)}
    assert list(begun) == ["convert", "hash", "compare"]
    conversion = plan(own, tmp_path / "other")
    assert begun["convert"] == sum(c.nbytes for c in conversion.components)
    assert begun["hash"] == conversion.source_nbytes
    done = [event.done for event in events if isinstance(event, PhaseAdvanced)]
    first = done.index(begun["convert"])
    assert done[: first + 1] == sorted(done[: first + 1])
    assert done[-1] == begun["hash"]
    assert events[-2] == PhaseStarted("compare", 0)
    assert isinstance(events[-1], ConversionFinished)
