"""How far a quantized model is from what it was made of, and whether that is as far as it should be.

Every tensor is compared while it is packed. At the end some blocks of each expert run on random input with both
sets of weights, since an error that is even over a tensor's numbers need not be even in what they compute. A
scheme states the error a Gaussian weight has under it; tensors above that are named, and far above it the
conversion fails: the model would be worse than its format promises.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from holo_lite.config import DiTConfig
from holo_lite.errors import CheckpointError, first_three
from holo_lite.model.clip import Clip
from holo_lite.model.dit import Block
from holo_lite.model.layers import TextRows
from holo_lite.model.linear import Linear, StoredLinear, pack_linears
from holo_lite.model.positions import Positions
from holo_lite.schemes.registry import find
from holo_lite.schemes.scheme import Scheme
from holo_lite.story.shots import ShotLayout
from holo_lite.weights.manifest import PLAIN
from quantize.plan import ComponentPlan
from quantize.source import Source

Load = Callable[[str], Tensor]
FAIL_FACTOR = 1.5
SLICE = 2**22  # numbers compared at once
LAYOUT = ShotLayout((0, 1), 3, 4, 6)  # two shots of random latents
TEXT_ROWS = 32


@dataclass(frozen=True)
class Quality:
    """Relative errors of a conversion. `tensors`: by component and name; `blocks`: outputs, by expert and block."""

    schemes: Mapping[str, Mapping[str, str]]
    tensors: Mapping[str, Mapping[str, float]]
    blocks: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def exceeding(self, factor: float) -> list[str]:
        """Tensors whose error is above `factor` times their scheme's bound, with both figures."""
        return [
            f"{component}/{name} (error {error:.4f}, usually under {bound:.4f})"
            for component, name, error, bound in self._rows()
            if not error <= factor * bound  # NaN is above any bound
        ]

    @property
    def worst(self) -> list[tuple[str, float]]:
        """The ten largest errors by name, the largest first."""
        rows = [(f"{component}/{name}", error) for component, name, error, _ in self._rows()]
        return sorted(rows, key=lambda row: -row[1])[:10]

    def summary(self) -> dict[str, dict[str, float]]:
        """Per component: tensors quantized, the mean of their errors, the largest."""
        rows = {component: list(errors.values()) for component, errors in self.tensors.items() if errors}
        return {
            component: {"tensors": len(errors), "mean": statistics.fmean(errors), "largest": max(errors)}
            for component, errors in rows.items()
        }

    def to_json(self) -> str:
        """Write everything, for ``quality.json``."""
        found = {
            "summary": self.summary(),
            "blocks": {role: {str(i): e for i, e in blocks.items()} for role, blocks in self.blocks.items()},
            "worst": self.worst,
            "above_bound": self.exceeding(1.0),
            "tensors": self.tensors,
        }
        return json.dumps(found, indent=1) + "\n"

    def table(self) -> Iterator[str]:
        """The report, for a person."""
        yield f"{'component':14} {'tensors':>8} {'mean error':>11} {'largest':>9}   error of a block's output"
        for component, row in self.summary().items():
            blocks = ", ".join(f"{i}: {e:.4f}" for i, e in self.blocks.get(component, {}).items())
            yield f"{component:14} {row['tensors']:8.0f} {row['mean']:11.4f} {row['largest']:9.4f}   {blocks}"
        for name, error in self.worst:
            yield f"  {error:.4f}  {name}"

    def _rows(self) -> Iterator[tuple[str, str, float, float]]:
        for component, errors in self.tensors.items():
            for name, error in errors.items():
                yield component, name, error, find(self.schemes[component][name]).error_bound


def refuse_bad(quality: Quality) -> None:
    """Raise `CheckpointError` that names tensors whose error is above 1.5 times their scheme's bound."""
    if bad := quality.exceeding(FAIL_FACTOR):
        raise CheckpointError(
            f"not accurate enough, above {FAIL_FACTOR} times the scheme's usual error: {first_three(bad)}; "
            "give these tensors another scheme in a recipe"
        )


def relative_error(scheme: Scheme, parts: Mapping[str, Tensor], weight: Tensor) -> float:
    """‖W - W'‖ / ‖W‖ of fp32 differences; 0 for a weight of zeros kept as zeros."""
    rows, columns = weight.shape
    restored = scheme.unpack(parts, (rows, columns), torch.float32)
    difference = size = 0.0
    step = max(1, SLICE // max(1, columns))
    for start in range(0, rows, step):
        old, new = weight[start : start + step].float(), restored[start : start + step]
        size += _sum_of_squares(old)
        difference += _sum_of_squares(new.sub_(old))
    return math.sqrt(difference / size) if size else math.sqrt(difference)


def _sum_of_squares(numbers: Tensor) -> float:
    """By rows in fp32, of rows in fp64: exact to 1e-6, and a fifth of the time of fp64 throughout."""
    return float(torch.linalg.vector_norm(numbers, dim=1).double().square().sum())


def block_errors(component: ComponentPlan, load_packed: Load, device: torch.device) -> dict[int, float]:
    """Relative error of the outputs of the first, middle and last block of an expert, on random input.

    `load_packed(name)` gives a stored tensor of the converted model. Activations are fp32; the weights they are
    compared with are the source's in bf16. Of either, one layer's are in memory at a time.
    """
    config = DiTConfig(**component.config)
    chosen = sorted({0, config.num_layers // 2, config.num_layers - 1})
    return {index: _block_error(component, config, index, load_packed, device) for index in chosen}


def _block_error(
    component: ComponentPlan, config: DiTConfig, index: int, load_packed: Load, device: torch.device
) -> float:
    prefix = f"blocks.{index}."
    stored = {t.name.removeprefix(prefix): t.scheme for shard in component.shards for t in shard.tensors}
    packed, exact = _skeleton(config), _skeleton(config)
    pack_linears(packed, {name: scheme for name, scheme in stored.items() if scheme != PLAIN})
    for name, linear in exact.named_modules():
        if isinstance(linear, Linear):
            del linear.weight
            linear.weight = FromSource(component.source, f"{prefix}{name}.weight", device)
    found = _run(packed, lambda name: load_packed(prefix + name), config, device)
    expected = _run(exact, lambda name: component.source.load(prefix + name).bfloat16(), config, device)
    size = float(expected.norm())
    return float((found - expected).norm()) / (size or 1.0)


class FromSource(StoredLinear):
    """A weight that is read from the source in bf16 whenever it is wanted."""

    def __init__(self, source: Source, name: str, device: torch.device) -> None:
        super().__init__()
        self._source, self._name, self._device = source, name, device

    def unpack(self, dtype: torch.dtype) -> Tensor:
        """Read the weight."""
        return self._source.load(self._name).to(self._device, torch.bfloat16).to(dtype)


def _skeleton(config: DiTConfig) -> Block:
    with torch.device("meta"):
        return Block(config)


def _run(block: nn.Module, load: Load, config: DiTConfig, device: torch.device) -> Tensor:
    """What a block adds to a random residual stream."""
    parameters = dict(block.named_parameters())
    tensors = {
        name: load(name).to(device, torch.float32 if name in parameters else None) for name in block.state_dict()
    }
    block.load_state_dict(tensors, assign=True)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(LAYOUT.tokens, config.dim, generator=generator).to(device)
    rows = torch.randn(TEXT_ROWS, config.dim, generator=generator).to(device)
    modulation = 0.2 * torch.randn(6, config.dim, generator=generator).to(device)
    before = x.clone()
    with torch.inference_mode():
        block([x], [TextRows(rows)], modulation, Clip(LAYOUT), Positions.of(LAYOUT, config.head_dim, device))
    return x - before
