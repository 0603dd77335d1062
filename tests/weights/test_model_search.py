"""Whose names tell what, and which file goes first in a folder where other models live."""

import itertools
import json
import shutil

import pytest
import torch
from conversions import expert_weights
from hypothesis import given, strategies as st
from safetensors.torch import save_file
from tensor_files import refusal
from toy_files import toy_model
from whole_models import write_published_model, write_vocabulary

from holo_lite.opening.checks import check_runnable, find_model
from holo_lite.text.vocabulary import check_tokenizer
from holo_lite.weights.file_names import traits
from holo_lite.weights.folder import open_folder
from holo_lite.weights.survey import DEPTH, survey

REST = ("models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth", "google/umt5-xxl/tokenizer.json")
PAIR = ("sparse_high_noise.safetensors", "sparse_low_noise.safetensors")
SUFFIXES = ("", "Q4_K_M", "fp8_e4m3fn_scaled_KJ", "bf16", "14B", "v2", "lowvram", "city96")


def lay(home, *names):
    """Empty files, folders made."""
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    return home


@given(
    st.permutations(["holocine", "attention", "noise", "t2v", "suffix"]),
    st.sampled_from(["full", "dense", "sparse"]),
    st.sampled_from(["high", "low", "high_noise", "lowNoise", "HighNoise", "low-noise"]),
    st.sampled_from(SUFFIXES),
    st.sampled_from([str.lower, str.upper, str.title, str]),
    st.sampled_from("-_ ."),
)
def test_the_order_and_case_of_the_words_of_a_name_do_not_matter(order, attention, noise, suffix, case, joint):
    """A dense expert taken for a sparse one makes a video that is wrong in a way nobody can see the cause of."""
    words = {"holocine": "HoloCine", "attention": attention, "noise": noise, "t2v": "Wan2_2-T2V", "suffix": suffix}
    name = joint.join(case(words[part]) if part != "noise" else words[part] for part in order if words[part])
    found = traits((name,))
    assert found.attention == ("sparse" if attention == "sparse" else "full")
    assert found.noise == ("high_noise" if noise.lower().startswith("high") else "low_noise")
    assert found.is_holocine


@pytest.mark.parametrize(
    ("parts", "attention"),
    [
        (("HoloCine_high_noise",), None),
        (("wan2.2_t2v_high_noise_14B_fp8_scaled",), "wan"),  # the base model
        (("wan2.2_t2v_high_noise", "HoloCine"), None),
        (("high_noise", "sparse", "HoloCine_dit"), "sparse"),
        (("high_noise", "full", "sparse"), "full"),
        (("HoloCine_sparse_full_high",), None),
        (("HoloCine_high_full_precision",), None),
        (("beautiful_high_noise",), None),
        (("diffusion_pytorch_model", "high_noise_model", "Wan2.2-T2V-A14B"), "wan"),
        (("diffusion_pytorch_model", "transformer", "models"), None),
    ],
)
def test_attention_is_told_by_words_and_never_guessed(parts, attention):
    found = traits(parts)
    assert (found.attention, found.noise) == (attention, "high_noise")


@pytest.mark.parametrize("name", ["slow_motion", "flow", "yellow", "highres", "low_high", "lowvram"])
def test_words_that_only_hold_a_noise_are_none(name):
    assert traits((name,)).noise is None


COMMON = {
    "ComfyUI": (
        "diffusion_models/wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors",
        "diffusion_models/wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors",
        "text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        "vae/wan_2.1_vae.safetensors",
        "tokenizer.json",
    ),
    "Kijai": (
        "HoloCine/Wan2_2-T2V-A14B-HIGH_HoloCine-full_fp8_e4m3fn_scaled_KJ.safetensors",
        "HoloCine/Wan2_2-T2V-A14B-LOW_HoloCine-full_fp8_e4m3fn_scaled_KJ.safetensors",
        "umt5-xxl-enc-bf16.safetensors",
        "Wan2_1_VAE_bf16.safetensors",
        "umt5-xxl/tokenizer.json",
    ),
    "GGUF": (
        "HoloCine-Full-HighNoise-Q4_K_M.gguf",
        "HoloCine-Full-LowNoise-Q4_K_M.gguf",
        "umt5-xxl-encoder-Q5_K_M.gguf",
        "Wan2.1_VAE.safetensors",
        "tokenizer/tokenizer.json",
    ),
    "Wan": (
        "Wan2.2-T2V-A14B/high_noise_model/diffusion_pytorch_model.safetensors.index.json",
        "Wan2.2-T2V-A14B/low_noise_model/diffusion_pytorch_model.safetensors.index.json",
        *(f"Wan2.2-T2V-A14B/{name}" for name in REST),
    ),
}


@pytest.mark.parametrize(("whose", "names"), COMMON.items(), ids=COMMON)
def test_names_that_other_tools_give_are_found(tmp_path, whose, names):
    home = lay(tmp_path, *names, "loras/wan2.2_lightning_high_noise.safetensors", "my_lora_low_noise.safetensors")
    lay(home, "Wan2.2-T2V-A14B/high_noise_model/diffusion_pytorch_model-00001-of-00006.safetensors")
    found = open_folder(home)
    assert found.weight_paths == tuple(home / name for name in names)
    assert found.attention == ("full" if whose in {"Kijai", "GGUF"} else "wan")


def test_names_that_do_not_tell_the_attention_ask_for_it(tmp_path):
    home = lay(tmp_path, "HoloCine_high.safetensors", "HoloCine_low.safetensors", *REST)
    assert "do not tell sparse experts from dense ones; give --attention" in refusal(home, open_folder)
    for attention in ("sparse", "full", "wan"):
        assert open_folder(home, attention).attention == attention


def test_experts_of_wan_are_no_pair_with_one_of_holocine(tmp_path):
    home = lay(
        tmp_path, PAIR[0], "wan2.2_t2v_high_noise_14B.safetensors", "wan2.2_t2v_low_noise_14B.safetensors", *REST
    )
    assert "has no sparse_low_noise.safetensors" in refusal(home, open_folder)
    lay(home, PAIR[1])
    assert {path.name for path in open_folder(home).experts.values()} == set(PAIR)


def test_the_released_name_goes_first_and_then_the_nearest(tmp_path):
    home = lay(tmp_path, *(f"deep/er/{name}" for name in (*PAIR, *REST)), "holocine_sparse_high.safetensors")
    lay(home, "vae/config.json", "a/tokenizer.json")
    found = open_folder(home)
    assert all("er" in path.parts for path in found.weight_paths)
    lay(home, *PAIR, *REST)
    assert open_folder(home).weight_paths == tuple(home / name for name in (*PAIR, *REST))


@pytest.mark.parametrize("name", [PAIR[0], "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth"])
def test_two_that_are_as_good_are_both_named(tmp_path, name):
    others = [each for each in (*PAIR, *REST) if each != name]
    home = lay(tmp_path, *others, f"one/{name}", f"two/{name}")
    message = refusal(home, open_folder)
    assert f"one/{name} and two/{name}; move one of them" in message
    shutil.rmtree(home / "two")
    assert home / "one" / name in open_folder(home).weight_paths


def test_copies_are_no_choice(tmp_path):
    home = lay(tmp_path, *PAIR, *REST[1:])
    for folder in ("one", "two"):
        (home / folder).mkdir()
        torch.save({"token_embedding.weight": torch.zeros(4, 4)}, home / folder / REST[0])
    (home / "three").symlink_to(home / "one")
    assert open_folder(home).text_encoder.name == REST[0]


def test_nothing_deeper_than_the_stated_depth_is_looked_at(tmp_path):
    home = lay(tmp_path, *PAIR, *REST[1:], "/".join("abcdefgh"[:DEPTH]) + f"/{REST[0]}")
    assert open_folder(home).text_encoder.name == REST[0]
    shutil.move(home / "a", home / "z" / "a")
    assert f"(looked {DEPTH} folders deep)" in refusal(home, open_folder)


def test_links_that_lead_back_are_followed_once(tmp_path):
    home = lay(tmp_path, "a/x.json")
    (home / "a" / "back").symlink_to(home)
    assert [path.name for path in survey(home).found] == ["a", "back", "x.json"]


def test_a_converted_model_inside_gives_none_of_its_parts(tmp_path):
    home = lay(tmp_path, *PAIR, *REST[:2], "nf4/model.json", "nf4/tokenizer.json")
    message = refusal(home, open_folder)
    assert "has no tokenizer.json" in message
    assert "or give a converted model in it, such as nf4" in message


def test_weights_under_an_unknown_name_are_named_with_what_to_type(tmp_path):
    home = lay(tmp_path, PAIR[1], *REST)
    (home / "epoch7.safetensors").write_bytes(b"x" * 3000)
    message = refusal(home, open_folder)
    assert (
        "has no sparse_high_noise.safetensors; if it is one of epoch7.safetensors (3.00 kB), rename it so"
        in message
    )


# --- parts are proven ------------------------------------------------------------------------------


@pytest.fixture
def models_folder(tmp_path, umt5_tokenizer_path):
    """A model among those of others, in the released names."""
    return write_published_model(tmp_path / "models", umt5_tokenizer_path)


def test_a_tokenizer_must_be_as_long_as_the_encoders_table(tmp_path):
    path = write_vocabulary(tmp_path / "tokenizer.json", 1000)
    for rows in (1000, 1024, 1127):
        check_tokenizer(path, rows)
    for rows in (999, 1128, 256384):
        message = refusal(path, lambda path, rows=rows: check_tokenizer(path, rows))
        assert f"it has 1000 tokens, the encoder {rows} rows" in message


def test_umt5s_tokenizer_is_known_by_its_words_too(tmp_path, umt5_tokenizer_path):
    check_tokenizer(umt5_tokenizer_path, 256384)
    whole = json.loads(umt5_tokenizer_path.read_text(encoding="utf-8"))
    (tmp_path / "again.json").write_text(json.dumps(whole))  # the same vocabulary in other bytes
    check_tokenizer(tmp_path / "again.json", 256384)
    wrong = write_vocabulary(tmp_path / "tokenizer.json", 256300)
    assert "is not the umt5 tokenizer" in refusal(wrong, lambda path: check_tokenizer(path, 256384))


def test_another_models_tokenizer_and_folders_are_passed_over(models_folder):
    write_vocabulary(models_folder / "FLUX.1-dev" / "tokenizer_2" / "tokenizer.json", 320)
    for folder, config in (("vae", {"_class_name": "AutoencoderKL"}), ("text_encoder", {"model_type": "clip"})):
        (models_folder / "FLUX.1-dev" / folder).mkdir()
        (models_folder / "FLUX.1-dev" / folder / "config.json").write_text(json.dumps(config))
    found = find_model(models_folder)
    assert not any("FLUX.1-dev" in path.parts for path in found.weight_paths)
    found.tokenizer.unlink()
    message = str(
        refusal(
            models_folder / "FLUX.1-dev" / "tokenizer_2" / "tokenizer.json", lambda _: find_model(models_folder)
        )
    )
    assert "it has 320 tokens, the encoder 256384 rows" in message


def test_a_transformer_of_another_model_is_not_taken_for_an_expert(models_folder):
    other = models_folder / "FLUX.1-dev" / "transformer" / "diffusion_pytorch_model.safetensors"
    other.parent.mkdir(parents=True)
    save_file({"transformer_blocks.0.attn.to_q.weight": torch.zeros(4, 4)}, other)
    high = find_model(models_folder).high_noise
    high.unlink()
    assert "has no sparse_high_noise.safetensors" in refusal(models_folder, find_model)


FOREIGN = {
    "36 channels": ("patch_embedding.weight", (256, 36, 1, 2, 2), "it takes 36 channels, not 16 (I2V or Fun-InP"),
    "48 channels": ("patch_embedding.weight", (256, 48, 1, 2, 2), "it takes 48 channels, not 16 (TI2V 5B)"),
    "17 channels": ("patch_embedding.weight", (256, 17, 1, 2, 2), "it takes 17 channels, not 16"),
    "gives 48": ("head.head.weight", (192, 256), "it gives 48 channels, not 16"),
    "VACE": (
        "vace_blocks.0.before_proj.weight",
        (256, 256),
        "it is of VACE, with vace_blocks.0.before_proj.weight",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("noise", ["high_noise", "low_noise"])
def test_an_expert_of_another_model_is_refused_by_every_command(run, models_folder, name, noise):
    key, shape, said = FOREIGN[name]
    path = open_folder(models_folder).experts[noise]
    save_file({**expert_weights(), key: torch.zeros(shape)}, path)
    for words in (
        ("inspect", models_folder),
        ("plan", "A man walks", "--model", models_folder, "--gpu", "RTX 4090"),
        ("check", "A man walks", "--model", models_folder),
        ("quantize", models_folder, models_folder.parent / "q"),
        ("generate", "A man walks", "--model", models_folder),
    ):
        outcome = run(*words)
        assert outcome.code == 2, words
        assert f"is not a Wan 2.2 T2V A14B expert: {said}" in outcome.err
        assert outcome.err.count("\n") == 1


def test_of_two_files_of_one_name_the_one_that_is_no_expert_for_text_is_passed_over(models_folder):
    home, high = models_folder, open_folder(models_folder).high_noise
    other = home / "I2V" / "a" / "b" / high.name
    other.parent.mkdir(parents=True)
    save_file({**expert_weights(), "patch_embedding.weight": torch.zeros(256, 36, 1, 2, 2)}, other)
    assert open_folder(home).high_noise == high


def test_a_folder_of_two_whole_models_is_refused(cache, tmp_path, umt5_tokenizer_path):
    home = tmp_path / "all"
    write_published_model(home / "ours", umt5_tokenizer_path)
    shutil.copytree(toy_model(cache), home / "toy")
    message = refusal(home, find_model)
    assert "holds parts of several models: " in message
    assert {"ours", "toy"} <= set(message.partition("several models: ")[2].replace(";", "").split())
    assert find_model(home / "toy").tokenizer == home / "toy" / "tokenizer.json"


def test_a_part_that_is_only_in_another_whole_model_is_not_borrowed(cache, tmp_path, umt5_tokenizer_path):
    home = write_published_model(tmp_path / "all", umt5_tokenizer_path)
    shutil.copytree(toy_model(cache), home / "toy")
    (home / "Wan2.2-T2V-A14B" / "Wan2.1_VAE.pth").unlink()
    assert "besides the whole one in toy; give the folder of one" in refusal(home, find_model)


def scaled(weights):
    """As Kijai, Comfy-Org and LightX2V store them: 8 bits, and a scale next to each."""
    found = {"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}
    for name, weight in weights.items():
        found[name] = weight
        if weight.ndim == 2 and name.startswith("blocks.") and "norm" not in name and "modulation" not in name:
            scale = weight.float().abs().max() / 448
            found[name] = (weight.float() / scale).to(torch.float8_e4m3fn)
            found[name.removesuffix("weight") + "scale_weight"] = scale.bfloat16()
    return found


def test_scaled_8_bit_experts_are_to_be_converted_and_every_command_agrees(run, models_folder):
    found = open_folder(models_folder)
    for path, seed in zip(found.experts.values(), itertools.count()):
        save_file(scaled(expert_weights(seed)), path)
    check_message = refusal(found.high_noise, lambda _: check_runnable(find_model(models_folder)))
    assert check_message.endswith(
        "is packed in a form that cannot run directly; convert it with holo-lite quantize"
    )
    assert run("inspect", models_folder).code == 0
    assert run("plan", "A man walks", "--model", models_folder, "--gpu", "RTX 4090").code == 2
    assert run("quantize", models_folder, models_folder.parent / "q", "--scheme", "bf16").code == 0
