"""All kernels by name. Where two are equally fast, the first one here is taken."""

from __future__ import annotations

from collections.abc import Sequence

from holo_lite.errors import FitError, SettingsError, nearest
from holo_lite.kernels import flash_attn, sage, sdpa
from holo_lite.kernels.kernel import Kernel, Site

KERNELS: tuple[Kernel, ...] = (*sdpa.KERNELS, *flash_attn.KERNELS, *sage.KERNELS)


def find(name: str, site: Site, kernels: Sequence[Kernel] = KERNELS) -> Kernel:
    """The kernel of that name, if nothing known of it speaks against it there. Raises `SettingsError`."""
    kernel = _named(name, site, kernels)
    if (refusal := kernel.refusal(site)) is not None:
        raise SettingsError(f"kernel '{name}': {refusal}; {usable(site, kernels)}")
    return kernel


def foresee(name: str, site: Site, kernels: Sequence[Kernel] = KERNELS) -> Kernel:
    """The kernel of that name for a card that is not here: what is installed here does not count.

    A card of which nothing is known has no compute capability, and is taken to be right. Raises `SettingsError`.
    """
    kernel = _named(name, site, kernels)
    if kernel.limits is None or site.capability is None:
        return kernel
    if (refusal := kernel.limits.refusal(site)) is not None:
        raise FitError(f"kernel '{name}': {refusal}", f"no kernel {name}: {refusal}")
    return kernel


def _named(name: str, site: Site, kernels: Sequence[Kernel]) -> Kernel:
    named = {kernel.name: kernel for kernel in kernels}
    if name not in named:
        close = nearest(name, ("auto", *named))
        raise SettingsError(f"kernel '{name}': unknown; {usable(site, kernels)}{close}")
    return named[name]


def usable(site: Site, kernels: Sequence[Kernel] = KERNELS) -> str:
    """What a person could say instead."""
    names = [kernel.name for kernel in kernels if kernel.refusal(site) is None]
    return f"here you can use auto, {', '.join(names)}"
