"""Our own ways to compute a step: every kernel, every number format, resident and streamed.

Each attention kernel that may be used on the device is run with plain arithmetic. The other number formats are run
with the kernel that `auto` takes, and with those that are approximate, which only a person may choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.speed.scale import Scale
from holo_lite.kernels.computing import choose_computing
from holo_lite.kernels.kernel import Site
from holo_lite.kernels.options import ComputeOptions
from holo_lite.kernels.registry import KERNELS
from holo_lite.model.compute import Compute

PLAIN = "bf16"  # what a person says of matrix products that are done as the weights are
EIGHT_BITS = ("fp8", "int8")
STREAMED = ("bf16", "nf4")


@dataclass(frozen=True)
class Own:
    """What is said of a way. exact: its attention is no approximation; scheme: of the weights, if they stream.

    entire: all blocks are run, however long that takes.
    """

    name: str
    kernel: str = "auto"
    linear: str = PLAIN
    fuse: str = "auto"
    exact: bool = True
    scheme: str | None = None
    entire: bool = False

    @property
    def plain(self) -> bool:
        """Whether it multiplies and attends as exactly as the dtype allows."""
        return self.linear == PLAIN and self.exact


@dataclass(frozen=True)
class Computing:
    """What the layers take, and what the record keeps of it."""

    compute: Compute
    says: dict[str, Any]


def use(way: Own, scale: Scale, device: torch.device) -> Computing:
    """Choose as the command line does. Raises `SettingsError` for what cannot be had."""
    said = ComputeOptions(kernel=way.kernel, compute=way.linear, fuse=way.fuse)
    found = choose_computing(said, scale.whole, device=device, dtype=scale.dtype)
    return Computing(found.compute, {**found.record, "why": list(found.lines), "exact": way.exact})


def own_ways(scale: Scale, device: torch.device) -> tuple[Own, ...]:
    """All ways that a device of this kind may have. What it refuses all the same says so when it is run."""
    return tuple(_ways(scale, device))


def _ways(scale: Scale, device: torch.device) -> Iterator[Own]:
    site = Site.of(device, scale.dtype, scale.whole.num_heads, scale.whole.head_dim)
    kernels = [kernel for kernel in KERNELS if kernel.refusal(site) is None]
    on_card = device.type == "cuda"
    for kernel in kernels:
        yield Own(f"{PLAIN} {kernel.name}", kernel.name, exact=kernel.exact)
    if on_card:
        yield Own(f"{PLAIN} auto, not fused", fuse="off")
    if scale.layers < scale.whole.num_layers:
        yield Own(f"{PLAIN} auto, all blocks", entire=True)
    for linear in EIGHT_BITS:
        yield Own(f"{linear} auto", linear=linear)
        for kernel in kernels:
            if not kernel.exact:
                yield Own(f"{linear} {kernel.name}", kernel.name, linear, exact=False)
    for scheme in STREAMED:
        yield Own(f"{PLAIN} auto, streamed from {scheme}", scheme=scheme)
    for linear in EIGHT_BITS if on_card else ():  # a CPU only shows what they cost
        yield Own(f"{linear} auto, streamed from {STREAMED[-1]}", linear=linear, scheme=STREAMED[-1])
