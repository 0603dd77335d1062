"""What is given when a model is opened, in any of its forms, is kept in one; anything else is one line."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from guard import HANGS

from holo_lite.errors import SettingsError
from holo_lite.opening.options import ModelOptions, RecordedOptions

ROOT = Path(__file__).parents[2]
ONE = [("a.safetensors", 1.0)]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"dtype": torch.bfloat16}, {"dtype": "bf16"}),
        ({"dtype": torch.float32}, {"dtype": "fp32"}),
        ({"dtype": "fp32"}, {"dtype": "fp32"}),
        ({"device": torch.device("cpu")}, {"device": "cpu"}),
        ({"device": torch.device("cuda", 1)}, {"device": "cuda:1"}),
        ({"profile": Path("own.toml")}, {"profile": "own.toml"}),
        ({"profile": "./own.toml"}, {"profile": "./own.toml"}),
        ({"lora": {"high": "a.safetensors"}}, {"lora": {"high_noise": ONE}}),
        ({"lora": {"low": ("a.safetensors", 1)}}, {"lora": {"low_noise": ONE}}),
        ({"lora": {"high_noise": ["a.safetensors"]}}, {"lora": {"high_noise": ONE}}),
        ({"lora": {"low_noise": [("a.safetensors", 1.0)]}}, {"lora": {"low_noise": ONE}}),
        ({"lora": {"low": Path("b")}}, {"lora": {"low_noise": [(Path("b"), 1.0)]}}),
        ({"lora": {"low": ("b", "c")}}, {"lora": {"low_noise": [("b", 1.0), ("c", 1.0)]}}),
        ({"lora": {"low": ["b", ("c", 0.5)]}}, {"lora": {"low_noise": [("b", 1.0), ("c", 0.5)]}}),
        ({"lora": {"low": ["b"], "low_noise": ["c"]}}, {"lora": {"low_noise": [("b", 1.0), ("c", 1.0)]}}),
        ({"lora": None}, {"lora": {}}),
    ],
    ids=str,
)
def test_every_form_is_kept_as_one(given, kept):
    options = ModelOptions(**given)
    assert {name: getattr(options, name) for name in kept} == kept
    assert options == ModelOptions(**kept) == replace(ModelOptions(), **given) == replace(options)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dtype": torch.float16}, "dtype torch.float16: give torch.bfloat16 or torch.float32, or 'auto'"),
        ({"dtype": 16}, "dtype: give auto, bf16, fp32 or a torch.dtype, not 16"),
        ({"device": 0}, "device: give auto, cpu, cuda, cuda:0 or a torch.device, not 0"),
        ({"device": torch.bfloat16}, "or a torch.device, not an object of type dtype"),
        ({"profile": 8}, "profile: give a path, not 8"),
        ({"kernel": None}, "kernel: give a text, not None"),
        ({"attention": True}, "attention: give a text, not True"),
        ({"lora": "a.safetensors"}, "lora: give files by expert, such as {"),
        ({"lora": {"hi": "a.safetensors"}}, "lora: 'hi' is not an expert; give high or low, such as {"),
        ({"lora": {"high": 0.5}}, "lora high: give a file, or a file and its strength, such as {"),
        ({"lora": {"high": ["a", 0.5]}}, "not 0.5"),
        ({"lora": {"high": ("a", None)}}, "lora high: strength: give a number, not None"),
        ({"lora": {"high": ("a", True)}}, "lora high: strength: give a number, not True"),
        ({"lora": {"low": ("a", float("inf"))}}, "lora low: strength inf: give a finite number such as 0.8"),
    ],
    ids=str,
)
def test_another_type_is_one_line_that_says_what_to_give(given, said):
    with pytest.raises(SettingsError) as caught:
        ModelOptions(**given)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_a_record_keeps_is_opened_as_it_was():
    options = ModelOptions(device="cpu", lora={"high": ("/a/fast.safetensors", 0.5)})
    assert RecordedOptions(**vars(options), model="/m").to_load({}) == ("/m", options)


def test_options_bring_no_torch_in():
    code = "import sys, holo_lite as h\nh.ModelOptions(dtype='bf16', device='cpu', lora={'high': 'a'})\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "assert 'torch' not in sys.modules"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
