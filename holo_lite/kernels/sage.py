"""SageAttention: queries and keys rounded to 8 bits, and on most cards the weights and values, too.

It is approximate, so it is used only if it is asked for by name. Zhang et al. 2024.

What it holds at once differs from card to card. The most, on Hopper: codes of queries and keys, a byte each, and of
the values a copy in whole tiles, the same turned round, and their codes in fp8: 2 + 2 + 1. With scales and filler
that is less than 2 bytes a number of the queries and 6 of the keys.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor

from holo_lite.eightbit.limits import Workspace
from holo_lite.kernels.kernel import Kernel, KernelLimits, KernelPackage, of_one_clip
from holo_lite.model.compute import Attend

PACKAGE = KernelPackage("sageattention", "sageattention")


def _open() -> Attend:
    call = import_module(PACKAGE.module).sageattn
    if "smooth_k" in inspect.signature(call).parameters:
        return of_one_clip(partial(_smoothed, call))
    return of_one_clip(partial(call, tensor_layout="NHD"))


def _smoothed(call: Callable[..., Any], q: Tensor, k: Tensor, v: Tensor) -> Any:
    """Take the keys' mean off, which changes no softmax, before they are rounded.

    Version 1 would do it itself, but in the caller's memory, where shots share rows of keys.
    """
    return call(q, k - k.mean(dim=1, keepdim=True), v, tensor_layout="NHD", smooth_k=False)


KERNELS = (
    Kernel(
        "sage",
        _open,
        KernelLimits(highest=(12, 1), widest=128),
        PACKAGE,
        exact=False,
        workspace=Workspace(queries=2, keys=6),
    ),
)
