"""How a model computes on this machine: which attention kernel, which number format, which fused operations.

Each is given by a person or chosen for the device. The result is what the layers take, a record that is stored in
the video, and one line about each choice for the display.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from holo_lite.config import DiTConfig
from holo_lite.eightbit.limits import NO_WORKSPACE, LinearMode, Workspace
from holo_lite.errors import RoomError
from holo_lite.kernels import registry
from holo_lite.kernels.attention_choice import KernelChooser
from holo_lite.kernels.fused import check_fuse, pick_ops
from holo_lite.kernels.kernel import Site
from holo_lite.kernels.linear_choice import foresee_linear, pick_linear
from holo_lite.kernels.options import AUTO, ComputeOptions
from holo_lite.model.compute import PLAIN, Compute
from holo_lite.system.bf16 import check_bf16
from holo_lite.system.cache_folder import cache_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComputeSetup:
    """What the layers take, what the run's settings keep of it, and why, a line for each choice there was.

    choice: what to choose to compute in this way again; workspace: the memory the attention kernel uses.
    """

    compute: Compute = PLAIN
    record: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    choice: ComputeOptions = AUTO
    workspace: Workspace = NO_WORKSPACE


@dataclass(frozen=True)
class ComputeForecast:
    """What a plan needs of it, and a line for each choice that changes it."""

    linear: LinearMode
    workspace: Workspace
    lines: tuple[str, ...]


def choose_computing(
    options: ComputeOptions, config: DiTConfig, *, device: torch.device, dtype: torch.dtype, scheme: str = ""
) -> ComputeSetup:
    """Decide how a model of this shape, whose weights are stored under this scheme, computes there.

    On a card, kernels are measured for `auto` once, and remembered in the cache folder. On a CPU `auto` is the
    plain way, silently. Raises `SettingsError` for what the device cannot do, `RoomError` without the memory
    to try it.
    """
    try:
        return _chosen(options, config, device, dtype, scheme)
    except torch.OutOfMemoryError as error:
        raise RoomError("memory ran out while kernels were tried; close other programs and try again") from error


def _chosen(
    options: ComputeOptions, config: DiTConfig, device: torch.device, dtype: torch.dtype, scheme: str
) -> ComputeSetup:
    site = Site.of(device, dtype, config.num_heads, config.head_dim)
    _check_numbers(site)
    sides = config.dim, config.ffn_dim
    linear, why_linear = pick_linear(options.compute, device, dtype, stored=scheme, sides=sides)
    kernel = KernelChooser(site, cache_folder()).pick(options.kernel)
    ops, fused, why_ops = pick_ops(options.fuse, device, dtype, linear)  # last: it may compile
    logger.info("%s; %s; %s", kernel.why, why_linear, why_ops)
    reasons = (kernel.why, options.kernel), (why_linear, options.compute), (why_ops, options.fuse)
    return ComputeSetup(
        Compute(kernel.attend, linear, ops),
        {"kernel": kernel.name, "linear": linear, "fused": fused},
        tuple(why for why, choice in reasons if choice != "auto" or device.type != "cpu"),
        ComputeOptions(kernel.name, "bf16" if linear == "plain" else linear, fused),
        kernel.workspace,
    )


def foresee_computing(
    options: ComputeOptions, config: DiTConfig, site: Site, *, scheme: str = "", here: bool
) -> ComputeForecast:
    """Return what `choose_computing` would choose, without measuring or compiling anything.

    `here`: the site's device is in this machine, and a small product is tried on it; else what is known of the card
    decides. Kernels that `auto` may take hold nothing, and fused operations no more than plain ones. Raises
    `SettingsError` for what the device cannot do.
    """
    _check_numbers(site)
    sides = config.dim, config.ffn_dim
    check_fuse(options.fuse)
    if here:
        linear, why = pick_linear(options.compute, site.device, site.dtype, stored=scheme, sides=sides)
    else:
        linear, why = foresee_linear(options.compute, site.capability, site.dtype, stored=scheme, sides=sides)
    lines = [why] if options.compute != "auto" or site.device.type != "cpu" else []
    if options.kernel == "auto":
        return ComputeForecast(linear, NO_WORKSPACE, tuple(lines))
    kernel = (registry.find if here else registry.foresee)(options.kernel, site)
    return ComputeForecast(linear, kernel.workspace, (*lines, f"kernel {kernel.name}: as asked"))


def _check_numbers(site: Site) -> None:
    """Raise `FitError` for a card that has no bf16, where that is what is computed in."""
    if site.dtype == torch.bfloat16:
        check_bf16(site.card, site.capability)
