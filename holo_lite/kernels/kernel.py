"""A kernel: a way to compute attention, where it is right, what it needs, and how it is brought in.

All of them are functions with the signature of `equations.attention`. Whether one may be used is asked in three
steps, each more expensive than the last: what is known of it (`Kernel.refusal`, which imports nothing), whether its
package comes in (`Kernel.open`), and what it gives for real numbers (`holo_lite.kernels.trial`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import Any

import torch
from torch import Tensor

from holo_lite.eightbit.limits import NO_WORKSPACE, Workspace
from holo_lite.model.compute import Attend

Capability = tuple[int, int]
HALVES = (torch.bfloat16, torch.float16)
NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass(frozen=True)
class Site:
    """Where attention is computed, and on what: `heads` heads of `head_dim` numbers. A CPU has no capability."""

    device: torch.device
    dtype: torch.dtype
    heads: int
    head_dim: int
    capability: Capability | None = None
    card: str = ""

    @classmethod
    def of(cls, device: torch.device, dtype: torch.dtype, heads: int, head_dim: int) -> Site:
        """Ask the device what it is."""
        if device.type != "cuda":
            return cls(device, dtype, heads, head_dim)
        capability, card = torch.cuda.get_device_capability(device), torch.cuda.get_device_name(device)
        return cls(device, dtype, heads, head_dim, capability, card)


@dataclass(frozen=True)
class KernelLimits:
    """The cards, numbers and heads a kernel is made for. head_dim: a multiple of `multiple` up to `widest`."""

    dtypes: tuple[torch.dtype, ...] = HALVES
    lowest: Capability = (8, 0)
    highest: Capability | None = None
    widest: int = 256
    multiple: int = 8

    def refusal(self, site: Site) -> str | None:
        """Why it is not right there, in a few words; None if it is."""
        if site.capability is None:
            return "it runs on CUDA cards only"
        if site.capability < self.lowest or (self.highest is not None and site.capability > self.highest):
            return f"it needs compute capability {self._cards()}, this card has {_dotted(site.capability)}"
        if site.dtype not in self.dtypes:
            return f"it computes in {' or '.join(NAMES[dtype] for dtype in self.dtypes)}, not {NAMES[site.dtype]}"
        if site.head_dim > self.widest or site.head_dim % self.multiple:
            return (
                f"it takes heads of up to {self.widest} numbers, multiples of {self.multiple}, not {site.head_dim}"
            )
        return None

    def _cards(self) -> str:
        return f"{_dotted(self.lowest)} " + (f"to {_dotted(self.highest)}" if self.highest else "and later")


@dataclass(frozen=True)
class KernelPackage:
    """What a kernel comes in. distribution: pip's name; module: the dotted name of what is imported."""

    distribution: str
    module: str

    @property
    def installed(self) -> bool:
        """Whether it seems to be there; nothing is imported."""
        return self.version is not None or _is_there(self.module)

    @property
    def version(self) -> str | None:
        """As its metadata say; None without any, as of a module that merely lies on the path."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None


@dataclass(frozen=True)
class Kernel:
    """`open` imports what is needed and returns the function; it raises whatever the package raises.

    software: why what is installed here speaks against it, in a few words; None if nothing does.
    exact: whether it computes what the equation says, but for the rounding of its dtype. `auto` takes no other.
    workspace: what it holds while it runs, for the plan.
    """

    name: str
    open: Callable[[], Attend]
    limits: KernelLimits | None = None
    package: KernelPackage | None = None
    software: Callable[[], str | None] = lambda: None
    exact: bool = True
    workspace: Workspace = NO_WORKSPACE

    def refusal(self, site: Site) -> str | None:
        """Why it cannot be used there, in a few words; None if nothing speaks against it. Imports nothing."""
        if self.limits is not None and (refusal := self.limits.refusal(site)) is not None:
            return refusal
        if self.package is not None and not self.package.installed:
            return f"it needs the package {self.package.distribution}, which is not installed"
        return self.software()


def of_one_clip(call: Callable[[Tensor, Tensor, Tensor], Any]) -> Attend:
    """Make a function of (n, H, D) from one of batches (1, n, H, D), which may return more than its result."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Triton and CuTe launch on the current card, whichever holds the tensors. Nothing happens for a CPU's.
        with torch.cuda.device_of(q):  # type: ignore[no-untyped-call]
            found = call(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0))
        out: Tensor = found[0] if isinstance(found, tuple) else found
        return out.squeeze(0)

    return attend


def _is_there(module: str) -> bool:
    """Whether a module lies on the path. Asking for `a.b` the usual way would import `a`, which may be heavy."""
    name, *inner = module.split(".")
    spec = importlib.util.find_spec(name)
    for part in inner:
        if spec is None or spec.submodule_search_locations is None:
            return False
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec is not None


def _dotted(capability: Capability) -> str:
    return f"{capability[0]}.{capability[1]}"
