"""Weight files of the real size but made of holes, and a model folder such as people have it."""

import json
import math
import shutil
import struct
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from small_model import random_model
from tokenizers import Tokenizer, models, processors

from holo_lite.config import DiTConfig

DATA = Path(__file__).parents[1] / "parity_data"
VOCABULARY = 256384  # umt5's
PUBLISHED = DiTConfig(dim=256, num_heads=2, ffn_dim=320, num_layers=2, text_dim=64)  # heads of 128, as released


def write_holes(path, shapes):
    """A bf16 safetensors file with a true header and data that takes no place on disk."""
    header, place = {}, 0
    for name, shape in shapes.items():
        end = place + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, end]}
        place = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + place)
    return path


def write_published_model(folder, tokenizer):
    """A small model under the original names, in the folders that two downloads from Hugging Face make."""
    holocine, wan = folder / "HoloCine" / "HoloCine_dit" / "sparse", folder / "Wan2.2-T2V-A14B"
    for place in (holocine, wan / "google" / "umt5-xxl", folder / "HoloCine" / ".cache" / "huggingface"):
        place.mkdir(parents=True)
    for seed, noise in enumerate(("high_noise", "low_noise")):
        weights = random_model(PUBLISHED, seed, torch.bfloat16).state_dict()
        save_file(weights, holocine / f"sparse_{noise}.safetensors", metadata={"format": "pt"})
    torch.save(_text_encoder(), wan / "models_t5_umt5-xxl-enc-bf16.pth")
    torch.save(load_file(DATA / "vae.safetensors"), wan / "Wan2.1_VAE.pth")
    shutil.copy(tokenizer, wan / "google" / "umt5-xxl" / "tokenizer.json")
    return folder


def write_vocabulary(path, size):
    """A tokenizer.json of so many words, which ends a prompt as umt5's does."""
    words = {"<pad>": 0, "</s>": 1} | {f"w{index}": index for index in range(2, size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return path


def _text_encoder():
    """The reference's small encoder with a row for every token of the real vocabulary."""
    weights = load_file(DATA / "text_encoder.safetensors")
    generator = torch.Generator().manual_seed(0)
    width = weights["token_embedding.weight"].shape[1]
    weights["token_embedding.weight"] = torch.randn(VOCABULARY, width, generator=generator)
    return {name: weight.to(torch.bfloat16) for name, weight in weights.items()}
