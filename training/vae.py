"""The VAE of holo-tiny: learns to keep nine frames of the drawn world in three latent frames.

It learns single pictures first, then clips, in crops, which are cheap, and whole pictures at the end. Noise on the
latents teaches the decoder to overlook small errors, as the transformer makes them; a weak pull towards zero keeps
their scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanRMS_norm
from torch import Tensor, nn

from holo_lite.tiny.drawing import draw_frame
from holo_lite.tiny.world import Act, Scene, random_scene
from training.loop import Part, train
from training.muon import optimizers
from training.stress import pixel_stress

FRAMES = 9
FIRST = 4  # frames of a shot's first latent frame


@dataclass(frozen=True)
class Stage:
    """One part of the curriculum: what is shown, how often, and how fast it is learnt."""

    name: str
    frames: int
    steps: int
    batch: int
    crop: int | None  # pixels, None for whole pictures
    muon: float
    adam: float
    noise: float = 0.05  # on the latents, against a scale of about one
    flicker: float = 0.0  # how much a wrong change from frame to frame counts
    stress: float = 0.0  # how much more a close character counts than the wall, a far one still more
    after_cut: float = 1.0  # how much the first latent frame of a shot counts: the shot before casts a shadow on it
    repainted: float = 0.0  # of the snippets in colours no caption has: no shape may lean on one combination
    at_cut: float = 0.0  # of the snippets have a cut in them, whatever chance says
    compute: torch.dtype = torch.float32


DECODER = Stage(
    "vae-decoder",
    frames=FRAMES,
    steps=4900,
    batch=4,
    crop=None,
    muon=1e-2,
    adam=2e-3,
    noise=0.1,
    flicker=1.0,
    stress=1.5,
    after_cut=4.0,
    compute=torch.bfloat16,
)


@dataclass(frozen=True)
class VaeRecipe:
    """Sizes and lengths of the training."""

    base_dim: int = 8
    stages: tuple[Stage, ...] = (
        Stage("vae-images", frames=1, steps=1100, batch=16, crop=48, muon=2e-2, adam=3e-3),
        Stage("vae-clips", frames=FRAMES, steps=350, batch=8, crop=48, muon=1e-2, adam=2e-3),
        Stage("vae-whole", frames=FRAMES, steps=60, batch=4, crop=None, muon=2e-3, adam=5e-4),
    )
    decoder: tuple[Stage, ...] = (DECODER,)
    pull: float = 1e-3


class FastNorm(nn.Module):
    """diffusers' WanRMS_norm, the same numbers, without the slow norm over a strided axis."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.gamma, self.scale = norm.gamma, norm.scale

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, c, …), normed over c."""
        length = (x * x).sum(1, keepdim=True).clamp_min(1e-24)
        normed: Tensor = x * length.rsqrt() * (self.scale * self.gamma)
        return normed


def new_vae(recipe: VaeRecipe) -> Any:
    """A VAE from a fixed seed, its norms replaced by fast ones.

    It begins as a chain of plain resamplings, each picture for itself: residual branches and the past of all
    convolutions are zero, time is halved by averaging and doubled by repeating.
    """
    torch.manual_seed(0)
    vae: Any = AutoencoderKLWan(base_dim=recipe.base_dim, z_dim=16)
    for module in list(vae.modules()):
        for name, child in module.named_children():
            if isinstance(child, WanRMS_norm):
                setattr(module, name, FastNorm(child))
    with torch.no_grad():
        for name, weight in vae.named_parameters():
            _begin(name, weight)
    return vae


def _begin(name: str, weight: Tensor) -> None:
    if name.endswith("bias"):
        weight.zero_()
    elif name.endswith("time_conv.weight"):
        outputs, inputs = weight.shape[:2]
        weight.zero_()
        if outputs == inputs:
            weight[:, :, :, 0, 0] = torch.eye(inputs)[..., None] / 3
        else:
            weight[:, :, -1, 0, 0] = torch.eye(inputs).repeat(2, 1)
    elif name.endswith("conv2.weight") or "attentions.0.proj" in name:
        weight.zero_()
    elif weight.ndim >= 4 and "gamma" not in name:
        nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        if weight.ndim == 5 and weight.shape[2] == 3:
            weight[:, :, -1] *= 3**0.5
            weight[:, :, :-1] = 0


def train_vae(recipe: VaeRecipe, part: Part) -> Any | None:
    """Train, as far as this part has time. → the VAE when done, else None."""
    vae = new_vae(recipe)
    for stage in recipe.stages:
        if _train_stage(vae, stage, recipe, part) is None:
            return None
    return vae


def train_decoder(vae: Any, recipe: VaeRecipe, part: Part) -> Any | None:
    """Train the decoder on, the encoder frozen: latents made before stay good. → the VAE when done, else None."""
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    for stage in recipe.decoder:
        if _train_stage(vae, stage, recipe, part) is None:
            return None
    return vae


def _train_stage(vae: Any, stage: Stage, recipe: VaeRecipe, part: Part) -> nn.Module | None:
    def step(_: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        pairs = [snippet(rng, stage) for _ in range(stage.batch)]
        clips, stress = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        return losses(vae, clips, stress, stage, recipe.pull)

    used = optimizers(vae, stage.muon, stage.adam, apart=("conv_in", "conv_out", "gamma", "time_conv"))
    return train(stage.name, vae, used, step, steps=stage.steps, rate=down, average=0.97, part=part)


def losses(vae: Any, clips: Tensor, stress: Tensor, stage: Stage, pull: float) -> dict[str, Tensor]:
    """How far the clips (b,3,t,h,w) are from themselves after the VAE, where `stress` (b,1,t,h,w) counts."""
    with torch.autocast("cpu", stage.compute, enabled=stage.compute != torch.float32):
        z = vae.encode(clips).latent_dist.mean
        seen = decode(vae, z + stage.noise * torch.randn_like(z))
    away = seen.float() - clips
    loss = _mean(away.abs() + 2 * away.square(), stress) + pull * z.float().square().mean()
    if stage.flicker:
        loss = loss + stage.flicker * _mean(away.diff(dim=2).abs(), stress[:, :, 1:])
    told = {"l1": away.abs(), "mse": away.square()}
    means = {name: value.mean().detach() for name, value in told.items()}
    return {"loss": loss, **means, "z": z.float().std().detach()}


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).mean() / weights.mean()


def decode(vae: Any, z: Tensor) -> Tensor:
    """diffusers' decoding without its clamp, behind which nothing is learnt. (b,16,F,h,w) → (b,3,4F-3,H,W)."""
    vae.clear_cache()
    z = vae.post_quant_conv(z)
    steps = []
    for index in range(z.shape[2]):
        vae._conv_idx = [0]
        frame = z[:, :, index : index + 1]
        steps.append(vae.decoder(frame, feat_cache=vae._feat_map, feat_idx=vae._conv_idx, first_chunk=index == 0))
    vae.clear_cache()
    return torch.cat(steps, 2)


def down(progress: float) -> float:
    """Learning rate: up over the first fiftieth, then straight down to a hundredth."""
    return min(1.0, progress / 0.02 + 0.05, 1.01 - progress)


def snippet(rng: np.random.Generator, stage: Stage) -> tuple[Tensor, Tensor]:
    """Frames from somewhere in a random scene, cut or not, and how much each pixel counts.

    → (3, frames, h, w), -1 to 1, and (1, frames, h, w); a stage's frames are 4t+1.
    """
    count, crop = stage.frames, stage.crop
    scene = random_scene(rng, held_out=False)
    start = start_of(scene, stage, rng)
    times = range(start, start + count)
    frames = np.stack([frame_of(scene, time) for time in times])
    if rng.random() < stage.repainted:
        frames = repaint(frames, rng)
    weights = np.stack([_stress_of(scene, time, stage) for time in times])
    if crop is not None:
        row, column = (int(rng.integers(size - crop + 1)) for size in frames.shape[1:3])
        frames = frames[:, row : row + crop, column : column + crop]
        weights = weights[:, row : row + crop, column : column + crop]
    return torch.from_numpy(frames).permute(3, 0, 1, 2) * 2 - 1, torch.from_numpy(weights)[None]


def start_of(scene: Scene, stage: Stage, rng: np.random.Generator) -> int:
    """The first frame of a snippet: anywhere, or so that the snippet has a cut in it."""
    last = scene.latents - 1 - stage.frames // 4
    if rng.random() < stage.at_cut:
        cut = (int(rng.choice(scene.cuts)) + 3) // 4
        return 4 * min(last, cut - int(rng.integers(1, 1 + stage.frames // 4)))
    return 4 * int(rng.integers(last + 1))


def repaint(frames: Any, rng: np.random.Generator) -> Any:
    """All colours exchanged for mixtures of themselves and their opposites. frames: (t, h, w, 3), 0 to 1."""
    opposite = rng.random((3, 3)) < 0.5
    shares = rng.dirichlet((0.5, 0.5, 0.5), size=3)
    mixed = frames @ (shares * np.where(opposite, -1, 1)).T + (shares * opposite).sum(1)
    return mixed.astype(np.float32)


def _shot_at(scene: Scene, time: int) -> tuple[Act, int]:
    """The shot of frame `time`, and the frame's number in it."""
    act, span = next((act, span) for act, span in zip(scene.acts, scene.spans, strict=True) if time in span)
    return act, time - span.start


def _stress_of(scene: Scene, time: int, stage: Stage, height: int = 64, width: int = 112) -> Any:
    act, since = _shot_at(scene, time)
    shadowed = since < time and since < FIRST
    return pixel_stress(act, since, height, width, stage.stress) * (stage.after_cut if shadowed else 1.0)


def frame_of(scene: Scene, time: int, height: int = 64, width: int = 112) -> Any:
    """Frame `time` of the whole clip. → (H, W, 3), 0 to 1."""
    act, since = _shot_at(scene, time)
    return draw_frame(scene, act, since, height, width)
