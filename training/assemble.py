"""From trained networks to a model folder, in the layout of the released files and through the same converter."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn

from holo_lite.config import Defaults
from holo_lite.tiny.words import MARKS, SPECIAL, VOCABULARY, token_id
from training.dit import DitRecipe
from training.latents import Scale
from training.text import umt5_config

LICENCE = "holo-tiny was trained from nothing on drawn scenes; it is licensed Apache-2.0, as holo-lite is."
DEFAULTS = Defaults(frames=49, height=64, width=112, fps=15.0, steps=12, cfg=2.0, negative="")


def tokenizer() -> Tokenizer:
    """Whole words and single marks of the drawn world; any other word is <unk>."""
    words = {word: token_id(word) for word in (*SPECIAL, *MARKS, *VOCABULARY)}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made


def assemble(folder: Path, networks: Mapping[str, nn.Module], vae: Any, scale: Scale, dit: DitRecipe) -> None:
    """Write the files of a model into `folder`, made if it is not there."""
    for part in ("text_encoder", "vae"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name in ("high_noise", "low_noise"):
        save_file(_plain(networks[name]), folder / f"sparse_{name}.safetensors")
    _write(folder / "dit_config.json", {"num_heads": dit.config.num_heads})
    text = _plain(networks["text"])
    text.pop("encoder.embed_tokens.weight", None)  # the same tensor as shared.weight
    save_file(text, folder / "text_encoder" / "model.safetensors")
    _write(folder / "text_encoder" / "config.json", umt5_config(dit.config.text_dim).to_dict())
    save_file(_plain(vae.bfloat16()), folder / "vae" / "diffusion_pytorch_model.safetensors")
    config = {**vae.config, "latents_mean": scale.mean, "latents_std": scale.std}
    _write(folder / "vae" / "config.json", config)
    tokenizer().save(str(folder / "tokenizer.json"))
    _write(folder / "defaults.json", dataclasses.asdict(DEFAULTS))
    (folder / "licence.txt").write_text(LICENCE, encoding="utf-8")


def _plain(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().clone() for name, tensor in module.state_dict().items()}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, default=str), encoding="utf-8")
