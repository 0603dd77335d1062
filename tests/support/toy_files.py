"""A model small enough to make in a second, of exactly the architecture of the large one.

It has two experts, a text encoder, a VAE and a tokenizer, in files laid out like the released ones, and
goes through the same loaders. Its weights are random numbers from a fixed seed.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from holo_lite.config import Defaults, DiTConfig
from holo_lite.model.dit import WanDiT

DEFAULTS = Defaults(frames=49, height=64, width=112, fps=15.0, steps=8, cfg=3.0, negative="")
DIT = DiTConfig(dim=96, num_heads=3, ffn_dim=192, num_layers=3, text_dim=64, freq_dim=64)
WORDS = (
    "a an and at away back behind blue bright camera caption character1 character2 character3 city close contains "
    "cut dark day door down dusk eyes face field fire from global gold green hand her his house in into is it "
    "landscape left light long looking medium morning moving mountain night of old on over per quiet rain red "
    "right road room scene sea shot shots shoulder sits sky slow slowly small snow stands static street sun the "
    "their through to toward tree turns under up walks wall water white wide wind window with woman man young"
)


def toy_model(folder: Path) -> Path:
    """The toy's files in a folder of its own under `folder`, made there once."""
    path = folder / "toy"
    if not path.is_dir():
        path.mkdir(parents=True)
        make_toy(path)
    return path


def make_toy(folder: Path) -> None:
    """Write the toy model's files into an existing folder."""
    for seed, noise in enumerate(("high_noise", "low_noise")):
        expert = _randomise(WanDiT(DIT), seed)
        save_file(expert, folder / f"dit_{noise}.safetensors")  # a name that serves either attention
    (folder / "dit_config.json").write_text(json.dumps({"num_heads": DIT.num_heads}))
    _write_text_encoder(folder / "text_encoder")
    _write_vae(folder / "vae")
    _tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "defaults.json").write_text(json.dumps(dataclasses.asdict(DEFAULTS)))


def _randomise(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Random weights that keep a signal's size: matrices by their fan-in, scales near one, the rest small."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, tensor in module.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if "norm" in name or "gamma" in name:
            weights[name] = 1 + 0.1 * noise
        elif tensor.ndim > 1 and "modulation" not in name:
            weights[name] = noise * tensor[0].numel() ** -0.5
        else:
            weights[name] = 0.1 * noise
    return weights


def _write_text_encoder(folder: Path) -> None:
    config = UMT5Config(
        vocab_size=3 + len(WORDS.split()) + 5,
        d_model=DIT.text_dim,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
    )
    folder.mkdir()
    weights = _randomise(UMT5EncoderModel(config), seed=2)
    weights.pop("encoder.embed_tokens.weight", None)  # the same tensor as shared.weight
    save_file(weights, folder / "model.safetensors")
    _write_config(folder, config.to_dict())


def _write_vae(folder: Path) -> None:
    folder.mkdir()
    vae: Any = AutoencoderKLWan(base_dim=4)
    save_file(_randomise(vae, seed=3), folder / "diffusion_pytorch_model.safetensors")
    _write_config(folder, dict(vae.config))


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config, default=str))


def _tokenizer() -> Tokenizer:
    """Whole words and single marks; a word it does not know is <unk>."""
    special = ["<pad>", "</s>", "<unk>", "[", "]", ".", ",", "-"]
    words = {word: index for index, word in enumerate([*special, *WORDS.split()])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer
