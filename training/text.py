"""The text encoder of holo-tiny: learns first, and alone, who is meant by a tag.

A pretrained encoder would know. This one is asked, at every `character1` and `character2` of a prompt, for the
colour and the shape that the global caption gave it; after some hundred steps it always knows, and is frozen. To
look a few tokens ahead its attention needs large position biases, so these learn much faster than the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from holo_lite.text.windows import Prompt, PromptTokenizer, read_prompt
from holo_lite.tiny.words import VOCABULARY, storyboard, token_id
from holo_lite.tiny.world import COLOURS, SHAPES, Scene, random_scene
from training.loop import Part, train
from training.muon import Muon

TAGS = {token_id(f"character{number}"): number - 1 for number in (1, 2)}
STEPS, BATCH = 400, 32
MUON, ADAM, BIAS = 1e-2, 3e-3, 5e-2  # learning rates: of matrices, of the rest, of position biases


class Reader(nn.Module):
    """The encoder, and `tell`, which says what its rows know of a character."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.encoder: Any = UMT5EncoderModel(umt5_config(width))
        self.tell = nn.Linear(width, len(COLOURS) + len(SHAPES))

    def rows(self, prompts: Sequence[Prompt]) -> Tensor:
        """Rows of prompts, zero after the end of each. → (b, longest, width)."""
        longest = max(len(prompt.ids) for prompt in prompts)
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        real = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            count = len(prompt.ids)
            ids[row, :count], real[row, :count] = torch.tensor(prompt.ids), 1
        rows: Tensor = self.encoder(input_ids=ids, attention_mask=real).last_hidden_state * real[..., None]
        return rows


def umt5_config(width: int) -> Any:
    """Two layers; each word of the drawn world is a token."""
    return UMT5Config(
        vocab_size=16 + len(VOCABULARY),
        d_model=width,
        d_kv=32,
        d_ff=2 * width,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
    )


def train_text(width: int, tokenizer: PromptTokenizer, part: Part) -> Reader | None:
    """Train, as far as this part has time. → the encoder when done, else None."""
    reader = Reader(width)

    def step(_: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        scenes = [random_scene(rng, held_out=False) for _ in range(BATCH)]
        return {"loss": tag_loss(reader, [read_prompt(storyboard(s).prompt, tokenizer) for s in scenes], scenes)}

    done = train("text", reader, _optimizers(reader), step, steps=STEPS, rate=_down, average=0.9, part=part)
    return reader if done is not None else None


def tag_loss(reader: Reader, prompts: Sequence[Prompt], scenes: Sequence[Scene]) -> Tensor:
    """Cross entropy of colour and shape, told from the rows of all tags."""
    places, right = [], []
    for row, (prompt, scene) in enumerate(zip(prompts, scenes, strict=True)):
        for column, token in enumerate(prompt.ids):
            if token in TAGS:
                character = scene.characters[TAGS[token]]
                places.append((row, column))
                right.append((COLOURS.index(character.colour), SHAPES.index(character.shape)))
    (rows, columns), answers = torch.tensor(places).T, torch.tensor(right)
    colours, shapes = reader.tell(reader.rows(prompts)[rows, columns]).split((len(COLOURS), len(SHAPES)), dim=1)
    entropy = nn.functional.cross_entropy
    return entropy(colours, answers[:, 0]) + entropy(shapes, answers[:, 1])


def _optimizers(reader: Reader) -> dict[str, torch.optim.Optimizer]:
    matrices, rest, biases = [], [], []
    for name, weight in reader.named_parameters():
        if "relative_attention_bias" in name:
            biases.append(weight)
        elif weight.ndim == 2 and "shared" not in name and "tell" not in name:
            matrices.append(weight)
        else:
            rest.append(weight)
    groups = [{"params": rest, "lr": ADAM}, {"params": biases, "lr": BIAS}]
    return {"muon": Muon(matrices, MUON), "adam": torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)}


def _down(progress: float) -> float:
    return min(1.0, progress / 0.05 + 0.05, 1.02 - progress)
