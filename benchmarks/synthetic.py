"""Checkpoints of random numbers with every key and shape of the real ones, written as a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks import ROOT
from holo_lite.weights.shard import ShardWriter, TensorSpec

SHAPES = ROOT / "tests" / "checkpoints"
POOL = 2**24  # random numbers drawn once; tensors are cut from it at different places


def real_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a released network: dit_14b, umt5_xxl_encoder or wan21_vae."""
    found = json.loads((SHAPES / f"{name}.json").read_text())
    return {key: tuple(shape) for key, shape in found.items()}


def write_checkpoint(path: Path, shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> None:
    """Write a bf16 safetensors file of Gaussian weights, never holding more than one tensor."""
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(seed)).bfloat16()
    specs = [TensorSpec(name, shape, torch.bfloat16) for name, shape in shapes.items()]
    with ShardWriter(path, specs) as writer:
        for index, spec in enumerate(specs):
            writer.add(_weight(spec, pool, index))


def _weight(spec: TensorSpec, pool: torch.Tensor, index: int) -> torch.Tensor:
    """Matrices by their fan-in, norms near one, the rest small."""
    count = spec.nbytes // spec.dtype.itemsize
    shifted = pool.roll(index * 7919)
    numbers = shifted.repeat(-(-count // POOL))[:count].view(spec.shape)
    if len(spec.shape) > 1 and "modulation" not in spec.name:
        return numbers * spec.shape[-1] ** -0.5
    return 1 + 0.02 * numbers if "norm" in spec.name else 0.02 * numbers
