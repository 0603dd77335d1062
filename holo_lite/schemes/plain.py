"""bf16: the weight itself, rounded at most once.

The release is bf16 already, so this is a repack: nothing is lost, and the folder opens fast. From a float32
source it costs one rounding to 8 significant bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from holo_lite.schemes.scheme import PartSpec, Scheme


@dataclass(frozen=True)
class Plain(Scheme):
    """bfloat16. Parts: weight (out, in) bfloat16.

    Bound: a number in [2^e, 2^(e+1)) lies on a grid of step 2^(e−7), and rounding to a grid errs by
    step/√12 (rms). Over a Gaussian, √(E[step²]/12) = 0.00166 σ, whatever σ.
    """

    name: str = "bf16"
    error_bound: float = 0.0018

    def parts(self, shape: tuple[int, int]) -> dict[str, PartSpec]:
        """The weight itself."""
        return {"weight": PartSpec(shape, torch.bfloat16)}

    def pack(self, weight: Tensor) -> dict[str, Tensor]:
        """Round to bfloat16; a contiguous bfloat16 weight is returned unchanged, not copied."""
        return {"weight": weight.detach().to(torch.bfloat16).contiguous()}

    def unpack(self, parts: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Cast back; in bfloat16 the part itself, not copied."""
        assert parts["weight"].shape == shape, f"{tuple(parts['weight'].shape)} is stored for {shape}"
        return parts["weight"].to(dtype)

    def slices(self, parts: Mapping[str, Tensor], shape: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
        """Cast back slice by slice, as `Scheme.slices` says."""
        weight = parts["weight"]
        for rows in self._slices(shape, weight.device):
            yield rows, weight[rows].to(torch.float32, copy=True)
