"""A model of random bytes in the converted format: real names, shapes and sizes, and no conversion.

How fast a model runs and what it takes does not depend on its numbers, as long as they stay finite. So codes are
random bytes, written as fast as the disk takes them, and scales are what a weight of that shape would have. Both
experts are the same shards under two names in the manifest, which halves the disk.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from synthetic import real_shapes

from holo_lite.config import HOLOCINE_14B, DiTConfig
from holo_lite.model.dit import WanDiT
from holo_lite.settings import Defaults
from holo_lite.weights.fill import module_shapes
from holo_lite.weights.folder import ModelFolder
from holo_lite.weights.manifest import FILE_NAME, PLAIN, Component, Manifest, Shard, StoredTensor
from holo_lite.weights.shard import ShardWriter, TensorSpec, write_whole
from quantize.inputs import plan_conversion
from quantize.plan import ComponentPlan, ShardPlan, TensorPlan
from quantize.recipe import Recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from whole_models import write_holes

POOL = 2**26  # random bytes drawn once; tensors are cut from it at different places
SPREAD = 3.0  # how many standard deviations the largest number of a row or group has, about
EXPERTS = ("high_noise", "low_noise")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Model:
    """What is written: an expert's sizes, and the width of the VAE."""

    config: DiTConfig = HOLOCINE_14B
    vae: int = 96


def write_model(folder: Path, scheme: str, model: Model, say: Say) -> None:
    """Write both experts under a scheme, and a VAE; nothing is done where all of it stands."""
    if (folder / FILE_NAME).is_file():
        say(f"{folder} is there")
        return
    component = _component(folder, scheme, model)
    pool = torch.randint(256, (POOL,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    shards = []
    for index, shard in enumerate(component.shards):
        shards.append(_write(folder, shard, pool, index))
        say(f"{shard.file}: {shard.nbytes / 1e9:.2f} GB, {index + 1} of {len(component.shards)}")
    _write_vae(folder / "vae.safetensors", model.vae)
    for expert in EXPERTS:
        (folder / expert).mkdir(exist_ok=True)  # a component is named by its folder
    tensors = {tensor.name: _stored(tensor) for shard in component.shards for tensor in shard.tensors}
    found = Component(component.config, tuple(shards), tensors)
    manifest = Manifest(scheme, "sparse", dict.fromkeys(EXPERTS, found))
    write_whole(folder / FILE_NAME, manifest.to_json().encode())


def _component(folder: Path, scheme: str, model: Model) -> ComponentPlan:
    """What a conversion of an expert would write, planned from a file that is nothing but a header and a hole."""
    source = folder.parent / "source"
    source.mkdir(parents=True, exist_ok=True)
    expert = write_holes(source / "expert.safetensors", _shapes(model.config))
    (source / "dit_config.json").write_text(json.dumps({"num_heads": model.config.num_heads}))
    (source / "tokenizer.json").write_text("{}")
    place = ModelFolder(source, "sparse", expert, expert, expert, expert, source / "tokenizer.json", Defaults())
    plan = plan_conversion(place, folder, Recipe(scheme), device=torch.device("cpu"), roles=("high_noise",))
    return plan.components[0]


def _shapes(config: DiTConfig) -> Mapping[str, tuple[int, ...]]:
    if config == HOLOCINE_14B:
        return real_shapes("dit_14b")
    with torch.device("meta"):
        return module_shapes(WanDiT(config))


def _stored(tensor: TensorPlan) -> StoredTensor:
    return StoredTensor(tensor.scheme, tensor.shape, str(tensor.dtype).removeprefix("torch."))


def _write(folder: Path, shard: ShardPlan, pool: torch.Tensor, seed: int) -> Shard:
    with ShardWriter(folder / shard.file, shard.specs) as writer:
        for tensor in shard.tensors:
            for part in tensor.parts:
                writer.add(_numbers(tensor, part, pool, seed))
    return Shard(shard.file, shard.nbytes, writer.sha256, shard.block)


def _numbers(tensor: TensorPlan, part: TensorSpec, pool: torch.Tensor, seed: int) -> torch.Tensor:
    """A stored tensor: codes at random, scales so that the weight is about as large as its fan-in asks for."""
    if part.dtype in {torch.uint8, torch.int8}:
        return _bytes(part, pool, seed)
    if tensor.scheme == PLAIN:
        return _plain(part, seed)
    scatter = 0.25 if part.name.endswith("_scale") else 1.0  # of nf4: what its absmaxes differ by
    return torch.full(part.shape, scatter * SPREAD * tensor.shape[-1] ** -0.5, dtype=part.dtype)


def _plain(part: TensorSpec, seed: int) -> torch.Tensor:
    """Matrices by their fan-in, scales of norms near one, the rest small."""
    noise = torch.randn(part.shape, generator=torch.Generator().manual_seed(seed)).to(part.dtype)
    if "gamma" in part.name or ("norm" in part.name and "bias" not in part.name):
        return 1 + 0.02 * noise
    matrix = len(part.shape) > 1 and "modulation" not in part.name
    return noise * math.prod(part.shape[1:]) ** -0.5 if matrix else 0.02 * noise


def _bytes(part: TensorSpec, pool: torch.Tensor, seed: int) -> torch.Tensor:
    start, count = (seed * 7919 * 64) % POOL, math.prod(part.shape)
    rounds = -(-(start + count) // POOL)
    numbers = (pool.repeat(rounds) if rounds > 1 else pool)[start : start + count]
    return numbers.view(part.dtype).view(part.shape)


def _write_vae(path: Path, width: int) -> None:
    if width == Model().vae:
        shapes = real_shapes("wan21_vae")
    else:
        with torch.device("meta"):
            vae: Any = AutoencoderKLWan(base_dim=width)
        shapes = {name: tuple(tensor.shape) for name, tensor in vae.state_dict().items()}
    specs = [TensorSpec(name, shape, torch.bfloat16) for name, shape in shapes.items()]
    with ShardWriter(path, specs) as writer:
        for spec in specs:
            writer.add(_plain(spec, 0))


def described(model: Model) -> dict[str, object]:
    """The model's sizes, for the record."""
    return {**asdict(model.config), "vae": model.vae}
