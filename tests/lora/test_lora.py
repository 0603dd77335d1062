"""An adapter merged is W + strength · alpha/rank · up @ down, whoever named its tensors."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_model import config_of, random_model

from holo_lite.commands.values import parse_lora_option
from holo_lite.errors import CheckpointError, SettingsError
from holo_lite.lora.file import open_lora
from holo_lite.lora.notes import name_notes
from holo_lite.weights.files import open_weights
from quantize.source import Source

REAL = json.loads((Path(__file__).parents[1] / "checkpoints" / "dit_14b.json").read_text())
MODEL = random_model(config_of())
WEIGHTS = {name: tensor.contiguous() for name, tensor in MODEL.state_dict().items()}
SHAPES = {name: tuple(tensor.shape) for name, tensor in WEIGHTS.items()}
LINEARS = [name.removesuffix(".weight") for name, tensor in WEIGHTS.items() if tensor.ndim == 2]
RANK = 4


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def factors(module):
    rows, columns = SHAPES[f"{module}.weight"]
    seed = LINEARS.index(module)
    return normal(rows, RANK, seed=seed), normal(RANK, columns, seed=1000 + seed)


def diffusers_name(module):
    for theirs, ours in (
        ("attn1", "self_attn"),
        ("attn2", "cross_attn"),
        ("ffn.net.0.proj", "ffn.0"),
        ("ffn.net.2", "ffn.2"),
        ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
        ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
        ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
        ("condition_embedder.time_proj", "time_projection.1"),
        ("proj_out", "head.head"),
    ):
        module = module.replace(ours, theirs)
    for letter, name in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0")):
        module = module.replace(f"attn1.{letter}", f"attn1.{name}").replace(f"attn2.{letter}", f"attn2.{name}")
    return module


def flat(module):
    return module.replace(".", "_")


STYLES = {
    "kohya": ("lora_unet_{flat}.lora_up.weight", "lora_unet_{flat}.lora_down.weight", "lora_unet_{flat}.alpha"),
    "kohya, two bars": (
        "lora_unet__{flat}.lora_up.weight",
        "lora_unet__{flat}.lora_down.weight",
        "lora_unet__{flat}.alpha",
    ),
    "kohya over diffusers": (
        "lora_transformer_{flat_theirs}.lora_up.weight",
        "lora_transformer_{flat_theirs}.lora_down.weight",
        "lora_transformer_{flat_theirs}.alpha",
    ),
    "lightx2v": (
        "diffusion_model.{own}.lora_up.weight",
        "diffusion_model.{own}.lora_down.weight",
        "diffusion_model.{own}.alpha",
    ),
    "diffusers": (
        "transformer.{theirs}.lora_B.weight",
        "transformer.{theirs}.lora_A.weight",
        "transformer.{theirs}.alpha",
    ),
    "diffusers, low noise": (
        "transformer_2.{theirs}.lora_B.weight",
        "transformer_2.{theirs}.lora_A.weight",
        "transformer_2.{theirs}.alpha",
    ),
    "original": (
        "diffusion_model.{own}.lora_B.weight",
        "diffusion_model.{own}.lora_A.weight",
        "diffusion_model.{own}.alpha",
    ),
    "peft": (
        "base_model.model.{theirs}.lora_B.default.weight",
        "base_model.model.{theirs}.lora_A.default.weight",
        "base_model.model.{theirs}.alpha",
    ),
    "UniAnimate, DiffSynth": (
        "pipe.dit.{own}.lora_B.default.weight",
        "pipe.dit.{own}.lora_A.default.weight",
        "pipe.dit.{own}.alpha",
    ),
    "Mochi": ("diffusion_model.{own}.lora_B", "diffusion_model.{own}.lora_A", "diffusion_model.{own}.alpha"),
    "older diffusers": (
        "transformer.{theirs}_lora.up.weight",
        "transformer.{theirs}_lora.down.weight",
        "transformer.{theirs}.alpha",
    ),
    "transformers": (
        "transformer.{theirs}.lora_linear_layer.up.weight",
        "transformer.{theirs}.lora_linear_layer.down.weight",
        "transformer.{theirs}.alpha",
    ),
    "unet": ("unet.{own}.lora_up.weight", "unet.{own}.lora_down.weight", "unet.{own}.alpha"),
    "bare, named adapter": ("{own}.lora_B.default.weight", "{own}.lora_A.default.weight", "{own}.alpha"),
}


def named(template, module):
    theirs = diffusers_name(module)
    return template.format(own=module, theirs=theirs, flat=flat(module), flat_theirs=flat(theirs))


def write(path, tensors, metadata=None):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


def whole_lora(path, style="lightx2v", alpha=None):
    up_name, down_name, alpha_name = STYLES[style]
    tensors = {}
    for module in LINEARS:
        tensors[named(up_name, module)], tensors[named(down_name, module)] = factors(module)
        if alpha is not None:
            tensors[named(alpha_name, module)] = torch.tensor(float(alpha))
    return write(path, tensors)


@pytest.mark.parametrize("alpha", [None, 1, 8])
@pytest.mark.parametrize("style", STYLES)
def test_every_style_of_names_gives_the_same_merged_weights(tmp_path, style, alpha):
    save_file(WEIGHTS, tmp_path / "expert.safetensors")
    lora = open_lora(whole_lora(tmp_path / "lora.safetensors", style, alpha), 0.7)
    source = Source(open_weights(tmp_path / "expert.safetensors"), loras=[lora])
    assert lora.terms.keys() == {f"{module}.weight" for module in LINEARS}
    factor = 0.7 * (1 if alpha is None else alpha / RANK)
    for module in LINEARS:
        up, down = factors(module)
        expected = WEIGHTS[f"{module}.weight"] + factor * up @ down
        torch.testing.assert_close(source.load(f"{module}.weight"), expected, rtol=1e-5, atol=1e-5)
    untouched = WEIGHTS.keys() - lora.terms.keys()
    assert all(torch.equal(source.load(name), WEIGHTS[name]) for name in untouched)


def test_a_merged_expert_computes_what_the_adapter_beside_it_would(tmp_path):
    """x (W + BA)ᵀ = xWᵀ + (xAᵀ)Bᵀ, which is how an adapter runs when it is not merged."""
    lora = open_lora(whole_lora(tmp_path / "lora.safetensors", alpha=2), 0.5)
    module = "blocks.1.ffn.2"
    up, down = factors(module)
    x, weight = normal(9, SHAPES[f"{module}.weight"][1]), WEIGHTS[f"{module}.weight"]
    merged = weight + lora.delta(f"{module}.weight")
    torch.testing.assert_close(x @ merged.T, x @ weight.T + 0.25 * (x @ down.T) @ up.T, rtol=1e-4, atol=1e-4)


def test_each_expert_gets_its_own_adapter(tmp_path):
    save_file(WEIGHTS, tmp_path / "expert.safetensors")
    name, module = "blocks.0.self_attn.q.weight", "blocks.0.self_attn.q"
    up, down = factors(module)
    merged = {}
    for noise, strength in (("high", 1.0), ("low", -0.25)):
        lora = open_lora(whole_lora(tmp_path / f"{noise}.safetensors"), strength)
        merged[noise] = Source(open_weights(tmp_path / "expert.safetensors"), loras=[lora]).load(name)
    torch.testing.assert_close(merged["high"], WEIGHTS[name] + up @ down)
    torch.testing.assert_close(merged["low"], WEIGHTS[name] - 0.25 * up @ down)


def test_whole_differences_change_weights_norms_biases_and_modulations(tmp_path):
    """What lightx2v's adapters hold beside the low-rank pairs."""
    changed = {
        "diffusion_model.blocks.0.self_attn.q.diff_b": "blocks.0.self_attn.q.bias",
        "diffusion_model.blocks.0.self_attn.norm_q.diff": "blocks.0.self_attn.norm_q.weight",
        "diffusion_model.blocks.0.norm3.diff": "blocks.0.norm3.weight",
        "diffusion_model.blocks.0.norm3.diff_b": "blocks.0.norm3.bias",
        "diffusion_model.blocks.0.diff_m": "blocks.0.modulation",
        "diffusion_model.head.diff_m": "head.modulation",
        "diffusion_model.head.head.diff": "head.head.weight",
        "diffusion_model.patch_embedding.diff": "patch_embedding.weight",
        "diffusion_model.patch_embedding.diff_b": "patch_embedding.bias",
    }
    tensors = {key: normal(*SHAPES[name], seed=number) for number, (key, name) in enumerate(changed.items())}
    lora = open_lora(write(tmp_path / "lora.safetensors", tensors), 0.5)
    lora.check(SHAPES)
    assert lora.terms.keys() == set(changed.values())
    for key, name in changed.items():
        torch.testing.assert_close(lora.delta(name), 0.5 * tensors[key])


def test_alpha_scales_the_pair_and_not_the_whole_difference(tmp_path):
    up, down = factors("head.head")
    tensors = {
        "diffusion_model.head.head.lora_up.weight": up,
        "diffusion_model.head.head.lora_down.weight": down,
        "diffusion_model.head.head.alpha": torch.tensor([8.0]),
        "diffusion_model.head.head.diff": normal(*SHAPES["head.head.weight"]),
        "diffusion_model.head.head.diff_b": normal(*SHAPES["head.head.bias"]),
    }
    lora = open_lora(write(tmp_path / "lora.safetensors", tensors), 3.0)
    lora.check(SHAPES)
    expected = 3 * (8 / RANK * up @ down + tensors["diffusion_model.head.head.diff"])
    torch.testing.assert_close(lora.delta("head.head.weight"), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(lora.delta("head.head.bias"), 3 * tensors["diffusion_model.head.head.diff_b"])


def test_the_bias_of_a_peft_pair_is_scaled_like_the_pair(tmp_path):
    up, down = factors("head.head")
    tensors = {
        "transformer.proj_out.lora_B.weight": up,
        "transformer.proj_out.lora_A.weight": down,
        "transformer.proj_out.lora_B.bias": normal(*SHAPES["head.head.bias"]),
        "transformer.proj_out.alpha": torch.tensor(1.0),
    }
    lora = open_lora(write(tmp_path / "lora.safetensors", tensors), 2.0)
    expected = 2 / RANK * tensors["transformer.proj_out.lora_B.bias"]
    torch.testing.assert_close(lora.delta("head.head.bias"), expected)


def test_a_convolutions_pair_gives_its_shape(tmp_path):
    shape = SHAPES["patch_embedding.weight"]
    up, down = normal(shape[0], RANK, 1, 1, 1), normal(RANK, *shape[1:])
    tensors = {"lora_unet_patch_embedding.lora_up.weight": up, "lora_unet_patch_embedding.lora_down.weight": down}
    lora = open_lora(write(tmp_path / "lora.safetensors", tensors))
    lora.check(SHAPES)
    expected = torch.einsum("or,rithw->oithw", up[:, :, 0, 0, 0], down)
    torch.testing.assert_close(lora.delta("patch_embedding.weight"), expected)


def test_rows_are_the_rows_of_the_whole(tmp_path):
    lora = open_lora(whole_lora(tmp_path / "lora.safetensors"), 0.3)
    name = "blocks.0.ffn.0.weight"
    whole, some = lora.delta(name), lora.delta(name, slice(5, 9))
    torch.testing.assert_close(some, whole[5:9])
    assert lora.delta("blocks.0.norm3.weight") is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_product_is_taken_in_float32(tmp_path, dtype):
    up, down = (factor.to(dtype) for factor in factors("head.head"))
    tensors = {"head.head.lora_up.weight": up, "head.head.lora_down.weight": down}
    delta = open_lora(write(tmp_path / "lora.safetensors", tensors)).delta("head.head.weight")
    assert delta.dtype == torch.float32
    torch.testing.assert_close(delta, up.float() @ down.float())


def test_the_settings_in_diffusers_files_say_alpha(tmp_path):
    settings = {"transformer.lora_alpha": 16, "transformer.r": RANK, "transformer.alpha_pattern": {}}
    tensors = {"transformer.proj_out.lora_B.weight": factors("head.head")[0]}
    tensors["transformer.proj_out.lora_A.weight"] = factors("head.head")[1]
    path = write(tmp_path / "lora.safetensors", tensors, {"lora_adapter_metadata": json.dumps(settings)})
    up, down = factors("head.head")
    torch.testing.assert_close(
        open_lora(path).delta("head.head.weight"), 16 / RANK * up @ down, rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("extra", [{"use_rslora": True}, {"use_dora": True}, {"alpha_pattern": {"q": 2}}])
def test_settings_that_change_the_arithmetic_are_refused(tmp_path, extra):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 8, **extra}))
    whole_lora(tmp_path / "adapter_model.safetensors", "peft")
    with pytest.raises(CheckpointError, match=f"sets {next(iter(extra))}, which holo-lite does not support"):
        open_lora(tmp_path / "adapter_model.safetensors")


def test_pefts_settings_beside_the_file_say_alpha(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 8, "use_dora": False}))
    whole_lora(tmp_path / "adapter_model.safetensors", "peft")
    up, down = factors("head.head")
    delta = open_lora(tmp_path / "adapter_model.safetensors").delta("head.head.weight")
    torch.testing.assert_close(delta, 8 / RANK * up @ down, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "key", ["diffusion_model.blocks.1.modulation.diff", "transformer.blocks.1.scale_shift_table.diff"]
)
def test_comfyuis_difference_of_a_modulation_is_lightx2vs(tmp_path, key):
    added = torch.randn_like(WEIGHTS["blocks.1.modulation"])
    lora = open_lora(write(tmp_path / "lora.safetensors", {key: added}))
    lora.check({name: tuple(tensor.shape) for name, tensor in WEIGHTS.items()})
    torch.testing.assert_close(lora.delta("blocks.1.modulation"), added)


def scale(path):
    """The one factor of all pairs of a file."""
    (found,) = {term.scale for terms in open_lora(path).terms.values() for term in terms}
    return found


@pytest.mark.parametrize("said", [{"r": RANK}, {"r": RANK + 1}, {}])
def test_pefts_settings_are_those_of_a_renamed_file_of_their_rank(tmp_path, said):
    """A hub's file is renamed as soon as there are two of them, and its alpha would be lost."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 2 * RANK, **said}))
    assert scale(whole_lora(tmp_path / "mine.safetensors", "peft")) == (2.0 if said == {"r": RANK} else 1.0)
    assert scale(whole_lora(tmp_path / "kohya.safetensors", "kohya", RANK)) == 1.0


ALPHAS = {"transformer.lora_alpha": 2.0 * RANK, "transformer_2.lora_alpha": 1.0 * RANK}


@pytest.mark.parametrize("order", [list, lambda items: list(reversed(items))])
@pytest.mark.parametrize(("style", "factor"), [("diffusers", 2.0), ("diffusers, low noise", 1.0)])
def test_of_the_alphas_of_several_networks_the_files_own_counts(tmp_path, order, style, factor):
    metadata = {"lora_adapter_metadata": json.dumps(dict(order([*ALPHAS.items()])))}
    tensors = load_file(whole_lora(tmp_path / "plain.safetensors", style))
    assert scale(write(tmp_path / "lora.safetensors", tensors, metadata)) == factor


def test_several_alphas_and_none_of_the_files_network_are_an_error(tmp_path):
    tensors = load_file(whole_lora(tmp_path / "plain.safetensors", "original"))
    path = write(tmp_path / "lora.safetensors", tensors, {"lora_adapter_metadata": json.dumps(ALPHAS)})
    with pytest.raises(CheckpointError, match=r"declares several alphas \(transformer.*\), none of them for"):
        open_lora(path)


@pytest.mark.parametrize(
    ("name", "expert", "said"),
    [
        (
            "wan2.2_lightning_high_noise",
            "low_noise",
            "is given for the low-noise expert, but its name says high-noise",
        ),
        ("char_LOW_v2", "high_noise", "is given for the high-noise expert, but its name says low-noise"),
        ("wan2.2_i2v_high", "high_noise", "its name says i2v"),
        ("Wan22-TI2V-5B", "low_noise", "its name says i2v"),
        ("wan_1.3B_style", "low_noise", "its name says 1.3b"),
        ("wan2.2_t2v_A14B_high_r64", "high_noise", None),
        ("slow_flow", "high_noise", None),
    ],
)
def test_a_name_that_speaks_against_the_use_is_noted(name, expert, said):
    notes = list(name_notes(Path(f"{name}.safetensors"), expert))
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]


# What must be told


def told(path, match, shapes=SHAPES):
    with pytest.raises(CheckpointError, match=match) as caught:
        open_lora(path).check(shapes)
    assert str(caught.value).startswith(f"{path.parent}")
    assert "\n" not in str(caught.value)


def test_keys_that_match_nothing_are_named_three_at_most(tmp_path):
    tensors = {f"diffusion_model.blocks.{i}.cross_attn.k_img.diff_b": normal(4) for i in range(5)}
    tensors["diffusion_model.head.head.diff_b"] = normal(*SHAPES["head.head.bias"])
    path = write(tmp_path / "i2v.safetensors", tensors)
    told(
        path, r"nothing in the model matches diffusion_model\.blocks\.0\.cross_attn\.k_img\.diff_b, .* and 2 more;"
    )


def test_an_adapter_of_a_deeper_model_is_told(tmp_path):
    up, down = normal(32, RANK), normal(RANK, 32)
    keys = {
        "lora_unet_blocks_39_self_attn_q.lora_up.weight": up,
        "lora_unet_blocks_39_self_attn_q.lora_down.weight": down,
    }
    told(write(tmp_path / "lora.safetensors", keys), "nothing in the model matches lora_unet_blocks_39_self_attn_q")


def test_an_adapter_of_a_wider_model_is_told(tmp_path):
    path = whole_lora(tmp_path / "lora.safetensors")
    told(
        path, "is not a LoRA for this model: .* does not fit .* more", {name: tuple(REAL[name]) for name in SHAPES}
    )


@pytest.mark.parametrize(
    ("up", "down"),
    [((32, 4), (5, 32)), ((32, 4, 2, 1, 1), (4, 32)), ((32,), (4, 32)), ((32, 4), (4,)), ((32, 4), (4, 31))],
)
def test_factors_that_do_not_fit_are_told(tmp_path, up, down):
    base = "diffusion_model.blocks.0.self_attn.q"
    tensors = {f"{base}.lora_up.weight": torch.zeros(up), f"{base}.lora_down.weight": torch.zeros(down)}
    told(write(tmp_path / "lora.safetensors", tensors), r"blocks\.0\.self_attn\.q.* does not fit")


@pytest.mark.parametrize("leaf", ["lora_up.weight", "lora_down.weight", "alpha", "lora_B.bias"])
def test_half_a_pair_is_told(tmp_path, leaf):
    told(write(tmp_path / "lora.safetensors", {f"head.head.{leaf}": torch.ones(4, 4)}), "without its pair")


@pytest.mark.parametrize("leaf", ["lokr_w1", "hada_w1_a", "dora_scale", "lora_mid.weight", "weight"])
def test_other_kinds_of_adapter_are_told(tmp_path, leaf):
    told(
        write(tmp_path / "lora.safetensors", {f"head.head.{leaf}": torch.ones(4, 4)}),
        "which is not a LoRA format that holo-lite knows",
    )


def test_a_file_for_both_experts_is_told(tmp_path):
    keys = {f"transformer{which}.proj_out.lora_A.weight": normal(RANK, 32) for which in ("", "_2")}
    told(write(tmp_path / "lora.safetensors", keys), "are for the same weight; give a file with one LoRA")


@pytest.mark.parametrize("alpha", [torch.tensor(float("nan")), torch.ones(3), torch.tensor(float("inf"))])
def test_a_damaged_alpha_is_told(tmp_path, alpha):
    up, down = factors("head.head")
    keys = {"head.head.lora_up.weight": up, "head.head.lora_down.weight": down, "head.head.alpha": alpha}
    told(
        write(tmp_path / "lora.safetensors", keys), "the rank or the alpha of head.head.lora_down.weight is damaged"
    )


def test_settings_that_are_no_json_are_told(tmp_path):
    keys = {"head.head.diff_b": normal(64)}
    told(write(tmp_path / "lora.safetensors", keys, {"lora_adapter_metadata": "{"}), "settings are not JSON")


def test_a_file_without_tensors_is_told(tmp_path):
    told(write(tmp_path / "lora.safetensors", {}), "holds no tensors; download it again")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        open_lora(tmp_path / "lora.safetensors")


def test_no_number_in_the_file_is_told_with_its_target(tmp_path):
    path = write(tmp_path / "lora.safetensors", {"head.head.diff_b": torch.full((64,), float("nan"))})
    with pytest.raises(
        CheckpointError, match=r"lora\.safetensors: what it adds to head\.head\.bias holds NaN or Inf"
    ):
        open_lora(path).delta("head.head.bias")


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [
        ("high.safetensors", "high.safetensors", 1.0),
        ("high.safetensors:0.8", "high.safetensors", 0.8),
        ("high.safetensors:-1", "high.safetensors", -1.0),
        ("/a/b:c/high.safetensors:2e-1", "/a/b:c/high.safetensors", 0.2),
        ("/a/b:c/high.safetensors", "/a/b:c/high.safetensors", 1.0),
        (r"C:\loras\high.safetensors", r"C:\loras\high.safetensors", 1.0),
        (r"C:\loras\high.safetensors:0.5", r"C:\loras\high.safetensors", 0.5),
        ("C:/loras/high.safetensors:0.5", "C:/loras/high.safetensors", 0.5),
        ("C:high.safetensors", "C:high.safetensors", 1.0),
    ],
)
def test_an_option_is_a_file_and_perhaps_a_strength(text, path, strength):
    assert parse_lora_option(text) == (Path(path), strength)


@pytest.mark.parametrize(
    "text", ["", ":0.5", "a.safetensors:", "a.safetensors:strong", "a.safetensors:nan", "ab:inf"]
)
def test_an_option_that_is_neither_is_told(text):
    with pytest.raises(SettingsError, match=r"write FILE or FILE:0\.8|must be FILE or FILE:STRENGTH"):
        parse_lora_option(text)
