"""Tensors read by calls: the numbers that were saved, in memory of their own, whatever becomes of the file."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st
from own_process import own_process
from safetensors.torch import save_file

from holo_lite.errors import CheckpointError
from holo_lite.weights.calls import OpenFiles
from holo_lite.weights.files import open_weights
from holo_lite.weights.weight_file import Excerpt

TENSORS = {
    "matrix": torch.arange(120.0).view(12, 10),
    "cube": torch.arange(60).view(3, 4, 5),
    "half": torch.arange(40).view(8, 5).bfloat16(),
    "eight": torch.ones(7, 3, dtype=torch.float8_e4m3fn),
    "one": torch.tensor(3.5),
    "none": torch.empty(0, 4),
}


@pytest.fixture(scope="module", params=["safetensors", "shards", "pth", "excerpt"])
def file(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    if request.param == "pth":
        torch.save(TENSORS, folder / "a.pth")
        return open_weights(folder / "a.pth")
    save_file(TENSORS, folder / "a.safetensors")
    if request.param == "shards":
        index = folder / "a.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": dict.fromkeys(TENSORS, "a.safetensors")}))
        return open_weights(index)
    whole = open_weights(folder / "a.safetensors")
    return Excerpt(Excerpt(whole, whole.entries), whole.entries) if request.param == "excerpt" else whole


def alike(found, expected):
    return found.dtype == expected.dtype and torch.equal(found.double(), expected.double())


@pytest.mark.parametrize("name", TENSORS)
def test_what_is_read_is_what_was_saved(file, name):
    found = file.load(name)
    assert alike(found, TENSORS[name])
    found.zero_()
    assert alike(file.load(name), TENSORS[name])


@settings(max_examples=30)
@given(
    name=st.sampled_from(["matrix", "cube", "half", "eight"]), start=st.integers(0, 13), count=st.integers(0, 13)
)
def test_rows_are_those_of_the_whole(file, name, start, count):
    rows = slice(start, start + count)
    assert alike(file.load(name, rows), TENSORS[name][rows])


def test_a_file_that_is_gone_is_named(tmp_path):
    with OpenFiles() as files, pytest.raises(CheckpointError, match=r"a\.safetensors: cannot be opened"):
        files.fill(tmp_path / "a.safetensors", 0, memoryview(bytearray(1)))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc: run on Linux")
def test_no_file_stays_mapped(file):
    for name in file.entries:
        file.load(name)
    assert str(file.path.parent) not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_a_file_that_is_cut_short_while_it_is_read_ends_in_one_line(tmp_path):
    """Tensors of every kind of file, adapters, the text encoder and a prompt's rows, the VAE: in another process.

    What is mapped would end it.
    """
    own_process("cut_while_read.py", FOLDER=str(tmp_path))
