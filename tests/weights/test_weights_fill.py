"""A file's tensors onto a module, or the names of what does not fit."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensor_files import refusal, same
from torch import nn

from holo_lite.errors import CheckpointError
from holo_lite.model.dit import WanDiT
from holo_lite.model.load import PREFIXES, check_expert, load_expert
from holo_lite.weights.files import open_weights
from holo_lite.weights.fill import check, fill

EXPERT = Path(__file__).parents[1] / "parity_data" / "dit_high_noise.safetensors"
CPU, FP32, BF16 = torch.device("cpu"), torch.float32, torch.bfloat16


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.safetensors"


@pytest.fixture
def pth(tmp_path):
    def save(content, **options):
        path = tmp_path / "x.pth"
        torch.save(content, path, **options)
        return path

    return save


def skeleton():
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(30, 20), nn.LayerNorm(20), nn.Linear(20, 40))


def state(dtype=FP32):
    generator = torch.Generator().manual_seed(0)
    return {n: torch.randn(t.shape, generator=generator).to(dtype) for n, t in skeleton().state_dict().items()}


def fill_from(path, tensors, dtype=FP32, renames=None):
    save_file(tensors, path)
    module = skeleton()
    fill(module, open_weights(path), renames or {}, dtype=dtype, device=CPU, what="a test")
    return module


@pytest.mark.parametrize("dtype", [FP32, BF16, torch.float16])
def test_in_the_files_own_dtype_the_module_gets_its_numbers(path, dtype):
    module = fill_from(path, state(dtype), dtype)
    same(module.state_dict(), state(dtype))
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("stored", [torch.float64, torch.float16, BF16, torch.float8_e4m3fn])
def test_another_dtype_is_cast_once_to_the_nearest(path, stored):
    module = fill_from(path, state(stored), FP32)
    same(module.state_dict(), {name: tensor.to(FP32) for name, tensor in state(stored).items()})


def test_a_pth_fills_a_module_too(pth):
    path, module = pth({name: nn.Parameter(tensor) for name, tensor in state().items()}), skeleton()
    fill(module, open_weights(path), {}, dtype=FP32, device=CPU, what="a test")
    same(module.state_dict(), state())
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_other_names_are_translated(path):
    renames = {f"old.{name}": name for name in state()}
    module = fill_from(path, {f"old.{name}": tensor for name, tensor in state().items()}, renames=renames)
    same(module.state_dict(), state())


def test_the_first_three_missing_extra_and_misshapen_are_named_and_the_rest_counted(path):
    whole = state()
    few = {name: tensor for name, tensor in whole.items() if name == "0.bias"}
    said = "it lacks 0.weight, 1.bias, 1.weight and 2 more"
    assert refusal(path, lambda p: fill_from(p, few)) == f"{path}: is not a test: {said}"
    extra = whole | {f"x{i}": torch.ones(1) for i in range(5)}
    assert refusal(path, lambda p: fill_from(p, extra)).endswith("the unknown x0, x1, x2 and 2 more")
    turned = whole | {"0.weight": torch.ones(30, 20), "2.bias": torch.ones(1, 40)}
    said = "0.weight is [30, 20], not [20, 30], 2.bias is [1, 40], not [40]"
    assert refusal(path, lambda p: fill_from(p, turned)).endswith(said)


def test_whole_numbers_are_not_taken_for_weights(path):
    """An int8 file without its scales has the right names and shapes, and would make noise for an hour."""
    packed = state() | {"0.weight": torch.ones(20, 30, dtype=torch.int8)}
    assert refusal(path, lambda p: fill_from(p, packed)).endswith("0.weight holds int8, no floating-point numbers")


def test_a_file_that_does_not_fit_leaves_the_module_without_memory(path):
    module = skeleton()
    save_file({"0.weight": torch.ones(20, 30)}, path)
    with pytest.raises(CheckpointError):
        fill(module, open_weights(path), {}, dtype=FP32, device=CPU, what="a test")
    assert all(parameter.is_meta for parameter in module.parameters())


def test_check_reads_names_and_shapes_alone():
    class Untouchable:
        def __init__(self, file):
            self.path, self.entries = file.path, file.entries

    file = Untouchable(open_weights(EXPERT))
    with torch.device("meta"):
        module = WanDiT(check_expert(EXPERT))
    check(module, file, {}, what="a test")


# Experts under other names


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
def test_an_expert_saved_with_a_prefix_is_the_same_expert(tmp_path, prefix):
    shutil.copy(EXPERT.parent / "dit_config.json", tmp_path)
    tensors = load_file(EXPERT)
    save_file({prefix + name: tensor for name, tensor in tensors.items()}, tmp_path / "x.safetensors")
    model = load_expert(tmp_path / "x.safetensors", dtype=FP32, device=CPU)
    same(model.state_dict(), tensors)
    assert not model.training


def test_a_prefix_that_only_some_names_carry_is_none(tmp_path):
    tensors = load_file(EXPERT)
    names = {name: f"model.{name}" if index else name for index, name in enumerate(tensors)}
    save_file({names[name]: tensor for name, tensor in tensors.items()}, tmp_path / "x.safetensors")
    assert "is not a Wan 2.2 T2V A14B expert" in refusal(tmp_path / "x.safetensors", check_expert)


def test_a_file_without_a_tensor_is_no_expert(path):
    save_file({}, path)
    assert "it lacks 'patch_embedding.weight'" in refusal(path, check_expert)
