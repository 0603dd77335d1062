"""flash-attn 2, 3 and 4: three packages of one project, which can be installed together.

All take batches (b, n, H, D) and scale by 1/sqrt(D). 2 returns the result alone; 3 did so after it had returned a
pair; 4 returns a pair. Dao 2023; Shah et al. 2024.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module

from holo_lite.kernels.kernel import Kernel, KernelLimits, KernelPackage, of_one_clip
from holo_lite.model.compute import Attend

TWO = KernelPackage("flash-attn", "flash_attn.flash_attn_interface")
THREE = KernelPackage("flash_attn_3", "flash_attn_interface")
FOUR = KernelPackage("flash-attn-4", "flash_attn.cute")


def _open(module: str) -> Attend:
    return of_one_clip(import_module(module).flash_attn_func)


KERNELS = (
    Kernel("flash-attn-2", partial(_open, TWO.module), KernelLimits(), TWO),
    Kernel("flash-attn-3", partial(_open, THREE.module), KernelLimits(highest=(9, 0)), THREE),
    Kernel("flash-attn-4", partial(_open, FOUR.module), KernelLimits(), FOUR),
)
