"""Random weights for a network that was built without memory.

They keep a signal's size, so that numbers stay finite and a card draws the power that real ones would have it draw:
it multiplies zeros faster.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Dtypes = Callable[[str], torch.dtype]


def fill_random(
    module: nn.Module, device: torch.device, dtypes: Dtypes, *, keep_on: torch.device | None = None
) -> None:
    """Give every parameter that is on meta random numbers, by its name in the dtype that `dtypes` says.

    They are drawn on the device, which is faster on a card, and stay there or on `keep_on`.
    """
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in list(module.named_parameters()):
        if parameter.is_meta:
            owner, _, leaf = name.rpartition(".")
            weight = random_weight(name, parameter.shape, generator, dtypes(name)).to(keep_on or device)
            setattr(module.get_submodule(owner), leaf, nn.Parameter(weight, requires_grad=False))


def random_weight(name: str, shape: torch.Size, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Matrices by their fan-in, scales of norms near one, the rest small."""
    weight = torch.randn(shape, generator=generator, dtype=dtype, device=generator.device)
    if len(shape) > 1 and "modulation" not in name and "table" not in name:
        return weight.mul_(shape[1:].numel() ** -0.5)
    weight.mul_(0.02)
    return weight.add_(1) if "norm" in name and name.endswith("weight") else weight
