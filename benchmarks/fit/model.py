"""A model of random bytes in the converted format: real names, shapes and sizes, and no conversion.

How fast a model runs and what it takes does not depend on its numbers, as long as they stay finite. So codes are
random bytes, written as fast as the disk takes them, and scales are what a weight of that shape would have. Both
experts are the same shards under two names in the manifest, which halves the disk. With a text encoder the folder
is a whole model, which `holo-lite generate` opens; without one it holds the experts and a VAE beside them.
"""

from __future__ import annotations

import json
import lzma
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from whole_models import write_holes

from benchmarks import ROOT
from benchmarks.synthetic import real_shapes
from holo_lite.config import HOLOCINE_14B, Defaults, DiTConfig
from holo_lite.model.dit import WanDiT
from holo_lite.system.outputs import write_output
from holo_lite.text.encoder_shapes import encoder_shapes
from holo_lite.text.encoder_sizes import EncoderSizes
from holo_lite.weights.fill import module_shapes
from holo_lite.weights.folder import ModelFolder
from holo_lite.weights.manifest import FILE_NAME, PLAIN, Component, Manifest, Shard, StoredTensor
from holo_lite.weights.shard import ShardWriter, TensorSpec
from quantize.convert import Conversion
from quantize.inputs import plan_conversion
from quantize.plan import ComponentPlan, ShardPlan, TensorPlan
from quantize.recipe import Recipe

POOL = 2**26  # random bytes drawn once; tensors are cut from it at different places
NORMALS = 2**24  # random numbers drawn once, likewise
TOKENIZER = ROOT / "tests" / "parity_data" / "umt5-xxl" / "tokenizer.json.xz"
SPREAD = 3.0  # how many standard deviations the largest number of a row or group has, about
EXPERTS = ("high_noise", "low_noise")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Model:
    """What is written: an expert's sizes, the width of the VAE, and a text encoder's sizes, or None: no encoder."""

    config: DiTConfig = HOLOCINE_14B
    vae: int = 96
    encoder: EncoderSizes | None = None


def write_model(folder: Path, scheme: str, model: Model, say: Say) -> None:
    """Write the parts of a model under a scheme; nothing is done where all of it stands."""
    if (folder / FILE_NAME).is_file():
        say(f"{folder} is there")
        return
    conversion = conversion_of(folder, scheme, model)
    pool = torch.randint(256, (POOL,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = {part.role: _write_component(folder, part, pool, say) for part in conversion.components}
    for expert in EXPERTS:
        (folder / expert).mkdir(exist_ok=True)  # a component is named by its folder
        found[expert] = found["high_noise"]
    if model.encoder is None:
        _write_vae(folder / "vae.safetensors", model.vae)
        write_output(folder / FILE_NAME, Manifest(scheme, "sparse", found).to_json().encode())
        return
    for name, content in conversion.extras.items():
        write_output(folder / name, content)
    manifest = Manifest(scheme, "sparse", found, files=conversion.files)
    write_output(folder / FILE_NAME, manifest.to_json().encode())


def _write_component(folder: Path, component: ComponentPlan, pool: torch.Tensor, say: Say) -> Component:
    shards = []
    for index, shard in enumerate(component.shards):
        shards.append(_write(folder, shard, pool, index))
        say(f"{shard.file}: {shard.nbytes / 1e9:.2f} GB, {index + 1} of {len(component.shards)}")
    return component_of(component, shards)


def component_of(plan: ComponentPlan, shards: Sequence[Shard]) -> Component:
    """A part as the manifest has it, once its shards are written."""
    tensors = {tensor.name: _stored(tensor) for shard in plan.shards for tensor in shard.tensors}
    return Component(plan.config, tuple(shards), tensors)


def conversion_of(folder: Path, scheme: str, model: Model) -> Conversion:
    """What a conversion would write, planned from files that are nothing but a header and a hole."""
    source = folder.parent / "source"
    source.mkdir(parents=True, exist_ok=True)
    expert = write_holes(source / "expert.safetensors", _shapes(model.config))
    (source / "dit_config.json").write_text(json.dumps({"num_heads": model.config.num_heads}))
    (source / "tokenizer.json").write_bytes(lzma.decompress(TOKENIZER.read_bytes()) if model.encoder else b"{}")
    roles, text, vae = ["high_noise"], expert, expert
    if model.encoder is not None:
        text = write_holes(source / "encoder.safetensors", _encoder_shapes(model.encoder))
        vae = write_holes(source / "vae.safetensors", _vae_shapes(model.vae))
        roles += ["text_encoder", "vae"]
    place = ModelFolder(source, "sparse", expert, expert, text, vae, source / "tokenizer.json", Defaults())
    return plan_conversion(place, folder, Recipe(scheme), device=torch.device("cpu"), roles=roles)


def _encoder_shapes(sizes: EncoderSizes) -> Mapping[str, tuple[int, ...]]:
    return {"shared.weight": (sizes.vocabulary, sizes.d_model), **dict(encoder_shapes(sizes))}


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
    noise = _cut(_normals(), seed, math.prod(part.shape)).view(part.shape).to(part.dtype)
    if "gamma" in part.name or ("norm" in part.name and "bias" not in part.name):
        return 1 + 0.02 * noise
    matrix = len(part.shape) > 1 and "modulation" not in part.name
    return noise * math.prod(part.shape[1:]) ** -0.5 if matrix else 0.02 * noise


@cache
def _normals() -> torch.Tensor:
    return torch.randn(NORMALS, generator=torch.Generator().manual_seed(0))


def _bytes(part: TensorSpec, pool: torch.Tensor, seed: int) -> torch.Tensor:
    return _cut(pool, seed, math.prod(part.shape)).view(part.dtype).view(part.shape)


def _cut(pool: torch.Tensor, seed: int, count: int) -> torch.Tensor:
    """So many numbers of a pool, from a place that depends on the seed, and from its beginning again."""
    start = (seed * 7919 * 64) % len(pool)
    rounds = -(-(start + count) // len(pool))
    return (pool.repeat(rounds) if rounds > 1 else pool)[start : start + count]


def _write_vae(path: Path, width: int) -> None:
    specs = [TensorSpec(name, shape, torch.bfloat16) for name, shape in _vae_shapes(width).items()]
    with ShardWriter(path, specs) as writer:
        for spec in specs:
            writer.add(_plain(spec, 0))


def _vae_shapes(width: int) -> Mapping[str, tuple[int, ...]]:
    if width == Model().vae:
        return real_shapes("wan21_vae")
    from diffusers import AutoencoderKLWan

    with torch.device("meta"):
        vae: Any = AutoencoderKLWan(base_dim=width)
    return {name: tuple(tensor.shape) for name, tensor in vae.state_dict().items()}


def described(model: Model) -> dict[str, object]:
    """The model's sizes, for the record."""
    return {**asdict(model.config), "vae": model.vae}
