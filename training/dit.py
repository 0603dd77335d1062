"""The experts of holo-tiny: rectified flow on drawn clips.

One network learns all noise levels first; then it is copied, and each copy learns on at its own levels. Noise
levels are drawn as the sampler visits them; one prompt in ten is left out, for guidance.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from holo_lite.config import DiTConfig
from holo_lite.model.dit import WanDiT
from holo_lite.sampling.schedule import BOUNDARY, SHIFT
from holo_lite.story.shots import ShotLayout
from holo_lite.text.windows import Prompt, PromptTokenizer, read_prompt
from holo_lite.tiny.words import storyboard
from holo_lite.tiny.world import Scene
from training.forward import Text, begin, sight_of, text_bias, text_sight, velocity
from training.latents import LENGTHS, Clips, Scale, read_clips
from training.loop import Part, train
from training.muon import optimizers
from training.stress import stress_of
from training.text import Reader

APART = ("patch_embedding", "head.head", "time_", "modulation", "bias", "norm")
LAST = BOUNDARY / 1000 / (SHIFT - (SHIFT - 1) * BOUNDARY / 1000)  # where on the unshifted line the experts meet
EVERY = (0.0, 1.0)
SHORTEST = LENGTHS[0]
UNSEEN = 64  # clips that are never learnt from; what they cost tells learning from remembering
UNSEEN_EVERY, UNSEEN_BATCHES = 100, 4  # steps between two such looks, and batches of one
EXPERTS = {"high_noise": (LAST, 1.0), "low_noise": (0.0, LAST)}

HOLO_TINY = DiTConfig(dim=192, num_heads=4, ffn_dim=512, num_layers=5, text_dim=128, freq_dim=64)


@dataclass(frozen=True)
class DitRecipe:
    """Sizes and lengths of the training."""

    config: DiTConfig = HOLO_TINY
    steps: int = 5600  # of the common network
    expert_steps: tuple[int, int] = (1950, 1950)  # of the experts alone, high noise and low
    expert_pace: float = 0.6  # of the learning rates, to begin with
    batch: int = 216  # latent frames
    shares: tuple[float, ...] = (0.4, 0.25, 0.15, 0.1, 0.1)  # of clips by length: short ones are cheap
    stress: float = 4.0  # how much more a character counts than the wall
    spot_stress: float = 12.0  # and how much more its spot
    clear: float = 0.5  # of the clips have clearer shots to look at, early on
    clear_until: float = 0.6  # of the common network's steps
    pairs: float = 0.75  # of the clips have two characters, whose traits are harder to keep apart
    muon: float = 2e-2
    adam: float = 2e-3
    dropped: float = 0.1
    height: int = 64
    width: int = 112


@dataclass(frozen=True)
class Told:
    """A clip's storyboard as the network meets it."""

    prompt: Prompt
    layout: ShotLayout
    sight: Tensor  # what each shot sees of the prompt
    stress: Tensor  # (F, h, w): how much each latent counts


@dataclass(frozen=True)
class Lessons:
    """All clips by length, each with its prompt."""

    clips: Mapping[int, Clips]
    told: Mapping[int, tuple[Told, ...]]
    empty: Prompt

    @classmethod
    def read(cls, folder: Path, scale: Scale, tokenizer: PromptTokenizer, recipe: DitRecipe) -> Lessons:
        """Read the encoded clips and tokenise their storyboards."""
        clips = {length: read_clips(folder, length, scale) for length in LENGTHS}
        told = {
            length: tuple(
                _told(read_prompt(storyboard(scene).prompt, tokenizer), scene, recipe) for scene in these.scenes
            )
            for length, these in clips.items()
        }
        return cls(clips, told, read_prompt("", tokenizer))

    def aside(self, count: int) -> tuple[Lessons, Lessons]:
        """All but the last `count` clips of the shortest length, to learn from, and those alone."""
        clips, told = self.clips[SHORTEST], self.told[SHORTEST]
        learnt = {**self.clips, SHORTEST: clips[:-count]}, {**self.told, SHORTEST: told[:-count]}
        unseen = {SHORTEST: clips[-count:]}, {SHORTEST: told[-count:]}
        return Lessons(*learnt, self.empty), Lessons(*unseen, self.empty)


def _told(prompt: Prompt, scene: Scene, recipe: DitRecipe) -> Told:
    layout = ShotLayout.from_frames(scene.frames, scene.cuts, recipe.height, recipe.width)
    weights = stress_of(scene, recipe.height, recipe.width, recipe.stress, recipe.spot_stress)
    return Told(prompt, layout, text_sight(prompt, layout.shots), torch.from_numpy(weights))


def train_experts(recipe: DitRecipe, reader: Reader, lessons: Lessons, part: Part) -> dict[str, nn.Module] | None:
    """Train all, as far as this part has time. → "high_noise" and "low_noise" when done, else None."""
    torch.manual_seed(1)
    common = WanDiT(recipe.config)
    begin(common)
    reader.requires_grad_(False)
    if _learn("dit", common, reader, lessons, recipe, EVERY, recipe.steps, part) is None:
        return None
    done: dict[str, nn.Module] = {}
    for name, steps in zip(EXPERTS, recipe.expert_steps, strict=True):
        done[name] = copy.deepcopy(common)
        if _learn(name, done[name], reader, lessons, recipe, EXPERTS[name], steps, part) is None:
            return None
    return done


def _learn(
    name: str,
    model: Any,
    reader: Reader,
    lessons: Lessons,
    recipe: DitRecipe,
    levels: tuple[float, float],
    steps: int,
    part: Part,
) -> nn.Module | None:
    alone = name in EXPERTS
    learnt, unseen = lessons.aside(UNSEEN)

    def step(index: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        early = not alone and index < recipe.clear_until * recipe.steps
        losses = flow_loss(model, reader, learnt, recipe, levels, rng, clear=recipe.clear if early else 0.0)
        if (index + 1) % UNSEEN_EVERY == 0:
            losses["unseen"] = unseen_loss(model, reader, unseen, recipe, levels)
        return losses

    pace = recipe.expert_pace if alone else 1.0
    used = optimizers(model, recipe.muon * pace, recipe.adam * pace, APART)
    rate = _down if alone else _up_and_down
    return train(name, model, used, step, steps=steps, rate=rate, average=0.995, part=part)


def flow_loss(
    model: WanDiT,
    reader: Reader,
    lessons: Lessons,
    recipe: DitRecipe,
    levels: tuple[float, float],
    rng: np.random.Generator,
    clear: float = 0.0,
) -> dict[str, Tensor]:
    """Squared error of the velocity at random noise levels, on a batch of clips of one length.

    `clear` of the clips have some shots with less noise than the rest; only the rest count.
    """
    length = int(rng.choice(LENGTHS, p=recipe.shares))
    batch = recipe.batch // length
    these = choose(lessons.clips[length].scenes, batch, recipe.pairs, rng)
    clean = lessons.clips[length].latents[these]
    told = [lessons.told[length][index] for index in these]
    dropped = rng.random(batch) < recipe.dropped
    told = [_unprompted(one, lessons.empty) if drop else one for one, drop in zip(told, dropped, strict=True)]
    even = (rng.permutation(batch) + rng.random(batch)) / batch
    line = levels[0] + (levels[1] - levels[0]) * torch.from_numpy(even).float()
    sigma = SHIFT * line / (1 + (SHIFT - 1) * line)
    noise = torch.randn_like(clean)
    share = torch.stack([noise_shares(one.layout, clear, rng) for one in told])
    away = (sigma[:, None] * share)[:, None, :, None, None]
    with torch.autocast("cpu", torch.bfloat16):
        text = _read(reader, told)
        sight = sight_of([one.layout for one in told], recipe.config.head_dim)
        found = velocity(model, torch.lerp(clean, noise, away), 1000 * sigma, text, sight)
    counted = (share == 1)[:, :, None, None]
    stress = (torch.stack([one.stress for one in told]) * counted)[:, None]
    errors = ((found - (noise - clean)).square() * stress).mean(dim=(1, 2, 3, 4)) / stress.mean(dim=(1, 2, 3, 4))
    high = sigma * 1000 >= BOUNDARY
    split = {key: errors.detach()[which].mean() for key, which in (("high", high), ("low", ~high)) if which.any()}
    return {"loss": errors.mean(), **split}


@torch.no_grad()
def unseen_loss(
    model: WanDiT, reader: Reader, lessons: Lessons, recipe: DitRecipe, levels: tuple[float, float]
) -> Tensor:
    """The same of clips that were set aside, with the same noise each time. → scalar."""
    torch.manual_seed(0)  # the next step sets its own
    rng = np.random.default_rng(0)
    shortest = replace(recipe, shares=tuple(float(length == SHORTEST) for length in LENGTHS))
    losses = [flow_loss(model, reader, lessons, shortest, levels, rng)["loss"] for _ in range(UNSEEN_BATCHES)]
    return torch.stack(losses).mean()


def choose(scenes: Sequence[Scene], count: int, pairs: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Which clips make a batch: each has two characters with a chance of `pairs`."""
    two = np.array([len(scene.characters) == 2 for scene in scenes])
    wanted = rng.random(count) < pairs
    return np.array([rng.choice(np.flatnonzero(two == pair)) for pair in wanted])


def noise_shares(layout: ShotLayout, clear: float, rng: np.random.Generator) -> Tensor:
    """How much of its noise each latent frame gets: all of it, but for some shots of `clear` of the clips. → (F,).

    Where one shot is seen more clearly, looking at it pays most: so a network finds out early that it should.
    """
    some = rng.random(layout.shots) < 0.5
    some[rng.integers(layout.shots)] = False
    shares = np.where(some & (rng.random() < clear), rng.random(layout.shots), 1.0)
    return torch.from_numpy(shares[list(layout.shot_of_latent_frame)]).float()


def _unprompted(told: Told, empty: Prompt) -> Told:
    return Told(empty, told.layout, text_sight(empty, told.layout.shots), torch.ones_like(told.stress))


def _read(reader: Reader, told: list[Told]) -> Text:
    rows = reader.rows([one.prompt for one in told])
    bias = [text_bias(one.sight, one.layout, rows.shape[1] + 1) for one in told]
    return Text(nn.functional.pad(rows, (0, 0, 0, 1)), torch.stack(bias)[:, None])


def _up_and_down(progress: float) -> float:
    """Learning rate: up, level until a half, then straight down to a third, where the experts continue."""
    return min(1.0, progress / 0.02 + 0.02, 1 - (progress - 0.5) / 0.5 * 0.65)


def _down(progress: float) -> float:
    """Learning rate: up over the first fiftieth, then straight down."""
    return min(1.0, progress / 0.02 + 0.05, max(0.01, (1 - progress) / 0.9))
