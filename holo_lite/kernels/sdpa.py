"""PyTorch's own attention: as it chooses for itself, and each of its CUDA backends alone.

A backend is called by its operator. `torch.nn.attention.sdpa_kernel` would do it by switches of the whole process:
another thread's attention would meet them, and two threads that leave such a block in the wrong order would leave
them set. The operators know no switches, and raise what they cannot compute instead of falling back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from holo_lite.kernels.kernel import HALVES, Kernel, KernelLimits
from holo_lite.model import equations
from holo_lite.model.compute import Attend

aten = torch.ops.aten

# Up to 9.15.0 cuDNN's attention reads beyond the end of rows whose number is no multiple of 128, and a latent frame
# has 1560 (pytorch/pytorch#169849, #171627). PyTorch does not choose it then; called by its operator it would run.
# What is read beyond the end need not change a result, so that no trial finds it.
READS_BEYOND = 91500


def _of_heads(call: Callable[[Tensor, Tensor, Tensor], Any]) -> Attend:
    """Make a function of (n, H, D) from an operator of batches of heads (1, H, n, D), whose first result counts.

    The strides are those of a batch of tokens (1, n, H, D), as `TORCH_CUDNN_SDPA_AVOID_RECOMPILE` asks for.
    """

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        found = call(*(rows.unsqueeze(0).transpose(1, 2) for rows in (q, k, v)))
        out: Tensor = found[0]
        return out.squeeze(0).transpose(0, 1)

    return attend


def _flash(q: Tensor, k: Tensor, v: Tensor) -> Any:
    return aten._scaled_dot_product_flash_attention(q, k, v)


def _efficient(q: Tensor, k: Tensor, v: Tensor) -> Any:
    return aten._scaled_dot_product_efficient_attention(q, k, v, None, compute_log_sumexp=False)


def _cudnn(q: Tensor, k: Tensor, v: Tensor) -> Any:
    return aten._scaled_dot_product_cudnn_attention(q, k, v, None, compute_log_sumexp=False)


def _cudnn_refusal() -> str | None:
    version = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    if version is None:
        return "it needs cuDNN, which this build of PyTorch lacks"
    if version > READS_BEYOND:
        return None
    name = f"{version // 10000}.{version % 10000 // 100}.{version % 100}"
    return f"it needs cuDNN 9.15.1 or later; {name} reads out of bounds where a length is no multiple of 128"


KERNELS = (
    Kernel("sdpa", lambda: equations.attention),
    Kernel(
        "cudnn",
        lambda: _of_heads(_cudnn),
        KernelLimits(widest=128),  # wider heads on some cards only
        software=_cudnn_refusal,
    ),
    Kernel("flash", lambda: _of_heads(_flash), KernelLimits()),
    Kernel("efficient", lambda: _of_heads(_efficient), KernelLimits((*HALVES, torch.float32), lowest=(7, 5))),
)
