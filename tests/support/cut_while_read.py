"""In a process of its own: files that are cut short while they are read, or after. What is mapped would end it."""

import os
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import torch
from conversions import DATA, encoder_weights, vae_weights, write_gguf
from safetensors.torch import load_file, save_file

from holo_lite.errors import CheckpointError
from holo_lite.film.vae import load_vae
from holo_lite.film.vae_encoder import load_vae_encoder
from holo_lite.lora.file import open_lora
from holo_lite.text.encoder import TextEncoder
from holo_lite.weights import calls
from holo_lite.weights.files import open_weights

CPU, FP32 = torch.device("cpu"), torch.float32


@contextmanager
def cut(path):
    """Within, the first read of a file finds that half of it is gone."""
    read, left = calls._read_once, [path]

    def late(handle, target, offset):
        if left:
            os.truncate(left.pop(), offset + len(target) // 2)
        return read(handle, target, offset)

    with mock.patch.object(calls, "_read_once", late):
        yield
    assert not left, f"{path}: nothing was read by a call"


def refused(path, work):
    """It says in one line that this file is shorter now."""
    with pytest.raises(CheckpointError) as raised, cut(path):
        work()
    assert str(raised.value) == f"{path}: ended early; it changed while it was in use"


def saved(path, tensors):
    if path.suffix == ".gguf":
        write_gguf(path, tensors)
    else:
        (save_file if path.suffix == ".safetensors" else torch.save)(tensors, path)
    return path


def tensors_and_adapters(folder):
    for name in ("a.safetensors", "a.pth", "a.gguf"):
        tensors = {"a": torch.ones(50, 64), "blocks.0.b.weight": torch.ones(50, 256)}  # the latter packed, in GGUF
        for each in tensors:
            file = open_weights(saved(path := folder / name, tensors))
            refused(path, lambda: file.load(each))  # noqa: B023
            refused(saved(path, tensors), lambda: file.load(each, slice(3, 9)))  # noqa: B023
    module = "diffusion_model.blocks.0.ffn.0"
    factors = {f"{module}.lora_up.weight": torch.ones(64, 8), f"{module}.lora_down.weight": torch.ones(8, 32)}
    path = saved(folder / "lora.safetensors", factors)
    lora = open_lora(path)
    refused(path, lambda: lora.delta("blocks.0.ffn.0.weight"))


def text(folder):
    for name in ("text.safetensors", "text.pth"):
        path = saved(folder / name, encoder_weights())
        refused(path, lambda: TextEncoder.stream(path, dtype=FP32, device=CPU))  # noqa: B023
        encoder = TextEncoder.stream(saved(path, encoder_weights()), dtype=FP32, device=CPU)
        refused(path, lambda: encoder.encode([1, 2, 3]))  # noqa: B023
        encoder.close()


def vae(folder):
    expected = load_file(DATA / "vae.safetensors")
    for name in ("vae.safetensors", "vae.pth"):
        path = folder / name
        for load in (load_vae, load_vae_encoder):
            refused(saved(path, vae_weights()), lambda: load(path, dtype=FP32, device=CPU))  # noqa: B023
        found = load_vae(saved(path, vae_weights()), dtype=FP32, device=CPU)
        os.truncate(path, 100)
        z = found.decoder_input(torch.ones(16, 2, 2))
        assert torch.equal(found.entry.bias, expected["conv2.bias"]), "it holds what it needs"
        assert all(torch.isfinite(frame).all() for frame in found.advance(z, found.new_cache()))


if __name__ == "__main__":
    for step in (tensors_and_adapters, text, vae):
        step(Path(os.environ["FOLDER"]))
