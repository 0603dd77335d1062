"""Every way in which a transformer's tensors are named leads to the model's own names."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_model import config_of, random_model

from holo_lite.errors import CheckpointError
from holo_lite.model.load import check_expert, load_expert
from holo_lite.weights.names import IN_BLOCK, OUTSIDE, PREFIXES, own_name, own_name_of_flat, own_names

REAL = json.loads((Path(__file__).parents[1] / "checkpoints" / "dit_14b.json").read_text())
MODULES = sorted({name.rpartition(".")[0] for name in REAL if name.endswith(("weight", "bias"))})


def to_diffusers(name):
    """The inverse of the table, for tests."""
    head, table = ("", OUTSIDE)
    if name.startswith("blocks."):
        number, name = name.removeprefix("blocks.").split(".", 1)
        head, table = f"blocks.{number}.", IN_BLOCK
    for theirs, ours in table.items():
        if name == ours or name.startswith(f"{ours}."):
            return head + theirs + name.removeprefix(ours)
    raise AssertionError(name)


def test_the_released_names_are_the_models_own():
    assert own_names(REAL) == {name: name for name in REAL}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("naming", [str, to_diffusers], ids=["original", "diffusers"])
def test_any_prefix_and_naming_leads_to_the_released_names(prefix, naming):
    stored = {prefix + naming(name): name for name in REAL}
    assert own_names(stored) == stored


def test_a_prefix_that_not_all_share_stays_and_can_be_seen():
    names = ["model.patch_embedding.weight", "head.head.bias"]
    assert own_names(names) == {name: name for name in names}


def test_two_names_for_one_tensor_are_not_quietly_made_one():
    names = ["blocks.0.self_attn.q.weight", "blocks.0.attn1.to_q.weight"]
    assert own_names(names) == {name: name for name in names}


@pytest.mark.parametrize(
    "name", ["blocks.0.cross_attn.k_img.weight", "img_emb.proj.0.bias", "blocks.0.norm22.bias"]
)
def test_an_unknown_name_stays_as_it_is(name):
    assert own_name(name) == name


def test_a_name_is_translated_only_at_whole_words():
    assert own_name("blocks.3.norm2.weight") == "blocks.3.norm3.weight"
    assert own_name("scale_shift_table") == "head.modulation"
    assert own_name("blocks.12.scale_shift_table") == "blocks.12.modulation"
    assert own_name("proj_outer.weight") == "proj_outer.weight"


@pytest.mark.parametrize("naming", [str, to_diffusers], ids=["original", "diffusers"])
def test_dots_are_found_again_in_every_module_of_the_model(naming):
    assert {own_name_of_flat(naming(module).replace(".", "_")) for module in MODULES} == set(MODULES)


def test_an_unknown_flat_name_matches_no_module():
    assert own_name_of_flat("blocks_0_cross_attn_k_img") not in MODULES
    assert own_name_of_flat("te_text_model") == "te_text_model"


@pytest.mark.parametrize("prefix", ["", "transformer.", "model.diffusion_model."])
def test_an_expert_in_diffusers_names_loads_as_itself(tmp_path, prefix):
    model = random_model(config_of())
    weights = {prefix + to_diffusers(name): t.contiguous() for name, t in model.state_dict().items()}
    path = tmp_path / "expert.safetensors"
    save_file(weights, path)
    (tmp_path / "dit_config.json").write_text('{"num_heads": 2}')
    assert check_expert(path) == model.config
    loaded = load_expert(path, dtype=torch.float32, device=torch.device("cpu")).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_a_diffusers_file_that_lacks_a_tensor_is_told_in_our_names(tmp_path):
    weights = {to_diffusers(name): t.contiguous() for name, t in random_model(config_of()).state_dict().items()}
    del weights["blocks.1.norm2.weight"]
    path = tmp_path / "expert.safetensors"
    save_file(weights, path)
    (tmp_path / "dit_config.json").write_text('{"num_heads": 2}')
    with pytest.raises(CheckpointError, match=r"lacks blocks\.1\.norm3\.weight$"):
        check_expert(path)
