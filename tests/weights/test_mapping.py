"""A file that is cut short while it is mapped."""

import os

import pytest
import torch
from safetensors.torch import save_file

from holo_lite.errors import CheckpointError
from holo_lite.weights.files import open_weights


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_was_cut_since_it_was_opened_is_named_and_not_touched(tmp_path, suffix):
    path, tensors = tmp_path / f"w{suffix}", {"a": torch.ones(5000), "b": torch.ones(5000)}
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    file = open_weights(path)
    assert file.load("a").sum() == 5000
    os.truncate(path, 4096)
    for name in tensors:
        with pytest.raises(CheckpointError, match="was cut short while it was in use"):
            file.load(name)
