"""The operations between matrix products, each in one pass over memory, by `torch.compile`.

In plain PyTorch a modulated norm reads and writes its tokens three times, a rotation five; between products that
take no longer than a few such passes this shows. The functions here are `holo_lite.model.equations` once more, in a
form that comes out as one kernel each, without rounding in between.

They are pure functions of tensors: weights are arguments, and no module, hook or stream is ever seen by the
compiler. A function is compiled once for a model, whatever the number of tokens: that axis is marked as dynamic,
which raises if the compiler fixes it all the same, and all others as fixed. A single token, which the compiler
always takes for a special case, goes the plain way. `fullgraph` makes an error of everything that would otherwise
fall back to plain PyTorch without a word, the limit of recompilations among it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from holo_lite.config import HOLOCINE_14B
from holo_lite.errors import SettingsError, in_a_line, nearest
from holo_lite.model import equations
from holo_lite.model.compute import Ops

SAYINGS = ("auto", "on", "off")
OPTIONS: dict[str, Any] = {"deterministic": True}  # no kernel is chosen by time: its bits would change with that
TOKENS = (5, 3)  # of a trial: a number, and another
CLOSE = {torch.bfloat16: 2**-6, torch.float32: 1e-5}  # relative error: plain bf16 rounds a few times more


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """LN(x) · (1 + scale) + shift. x: (n, d); shift, scale: (d,)."""
    return F.layer_norm(x, x.shape[-1:], None, None, eps) * (1 + scale) + shift


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over all of d. x: (n, d)."""
    return _normed(x, weight, eps).to(x.dtype)


def norm_turn(x: Tensor, weight: Tensor, eps: float, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
    """RMSNorm over all of d, then RoPE on each head. x: (n, d) → (n, H, D).

    Each number of a pair is turned by itself, with the other as its partner: cos · (a, b) + sin · (-b, a).
    """
    pairs = _normed(x, weight, eps).view(len(x), heads, -1, 2)
    sign = 2.0 * torch.arange(2, device=x.device) - 1
    turned = pairs * cos[..., None] + pairs.flip(-1) * (sin[..., None] * sign)
    return turned.flatten(2).to(x.dtype)


def gated_add_(x: Tensor, gate: Tensor, update: Tensor) -> Tensor:
    """x += gate · update. x, update: (n, d); gate: (d,)."""
    return x.addcmul_(update, gate)


def _normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.to(torch.float32)
    return wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight


@dataclass(frozen=True)
class FusedOps:
    """A function compiled for any number of tokens from two on. `tokens`: which arguments have a row for each."""

    plain: Callable[..., Tensor]
    compiled: Callable[..., Tensor]
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, function: Callable[..., Tensor], plain: Callable[..., Tensor], tokens: tuple[int, ...]) -> FusedOps:
        """Prepare a function; it is compiled by its first call."""
        assert isinstance(function, FunctionType)
        # Compiled code is kept, and counted, by code object: with one of its own, other models' do not count.
        own = FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
        return cls(plain, torch.compile(own, fullgraph=True, options=OPTIONS), tokens)

    def __call__(self, *given: Any) -> Tensor:
        """The function's result; for one token, the plain one's."""
        if len(given[0]) == 1:
            return self.plain(*given)
        return self.compiled(*(self._marked(place, each) for place, each in enumerate(given)))

    def _marked(self, place: int, given: Any) -> Any:
        """An argument as the compiler should see it: each axis dynamic or fixed, and any kind of tensor alike.

        Code is compiled for parameters or for plain tensors, made in inference mode or outside it. Which of these a
        weight is depends on when its block came; the same memory as a new tensor is always of one kind.
        """
        if not isinstance(given, Tensor):
            return given
        memory = given.untyped_storage(), given.storage_offset(), given.shape, given.stride()
        tensor = torch.empty(0, dtype=given.dtype, device=given.device).set_(*memory)
        by_token = place in self.tokens
        if by_token:
            torch._dynamo.mark_dynamic(tensor, 0)
        for axis in range(int(by_token), tensor.ndim):
            torch._dynamo.mark_static(tensor, axis)
        return tensor


def fused_ops() -> Ops:
    """The operations, to be compiled when they are first called."""
    return Ops(
        modulate=FusedOps.of(modulate, equations.modulate, (0,)),
        norm=FusedOps.of(norm, equations.rms_norm_, (0,)),
        norm_turn=FusedOps.of(norm_turn, equations.norm_turn_, (0, 3, 4)),
        gated_add_=FusedOps.of(gated_add_, equations.gated_add_, (0, 2)),
    )


def check_fuse(said: str) -> None:
    """Raise `SettingsError` for what is none of auto, on and off."""
    if said not in SAYINGS:
        raise SettingsError(f"fuse '{said}': give one of {', '.join(SAYINGS)}{nearest(said, SAYINGS)}")


def pick_ops(said: str, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> tuple[Ops, str, str]:
    """Decide whether operations are fused: ``auto``, ``on`` or ``off`` → operations, ``on`` or ``off``, and why.

    ``auto`` is off on a CPU, where compiling takes longer than it saves, and on where a trial on a card runs and
    agrees. The trial has the released model's widths and the run's `dtype`, so that what it compiles serves. Raises
    `SettingsError` where fusing was asked for and is not possible.
    """
    check_fuse(said)
    if said == "off":
        return Ops(), "off", "fuse off: as asked"
    if said == "auto" and device.type == "cpu":
        return Ops(), "off", "fuse off: on a CPU compiling takes longer than it saves"
    ops, reason = _tried(device, dtype)
    if reason is None:
        why = "as asked" if said == "on" else "norms, rotations and sums take one pass each"
        return ops, "on", f"fuse on: {why}"
    if said == "on":
        raise SettingsError(f"fuse 'on': {reason}; give --fuse off")
    return Ops(), "off", f"fuse off: {reason}"


def _tried(device: torch.device, dtype: torch.dtype) -> tuple[Ops, str | None]:
    """The fused operations, and what is wrong with them."""
    try:
        ops = fused_ops()
    except RuntimeError as raised:  # what PyTorch says to a Python that it cannot compile
        return Ops(), _failed(raised)
    return ops, trial(ops, device, dtype, HOLOCINE_14B.dim, HOLOCINE_14B.num_heads)


def trial(ops: Ops, device: torch.device, dtype: torch.dtype, dim: int, heads: int) -> str | None:
    """Compare each operation with the plain one for different numbers of tokens; return what is wrong, if anything.

    Raises `torch.OutOfMemoryError`, which says nothing about the compiler.
    """
    try:
        with torch.inference_mode():
            errors = [_worst(ops, tokens, device, dtype, dim, heads) for tokens in TOKENS]
    except torch.OutOfMemoryError:
        raise
    except Exception as raised:  # noqa: BLE001 - a compiler's, whose errors have no common root
        return _failed(raised)
    if not max(errors) <= CLOSE[dtype]:  # true of NaN, too
        return f"torch.compile gives wrong results here: they are {max(errors):.2g} off"
    return None


def _failed(raised: Exception) -> str:
    return f"torch.compile does not work here ({in_a_line(raised, whole=True)})"


def _worst(ops: Ops, tokens: int, device: torch.device, dtype: torch.dtype, dim: int, heads: int) -> float:
    """The largest relative error of the operations as against the plain ones."""
    plain, errors = Ops(), []
    for name, given in _arguments(tokens, device, dtype, dim, heads).items():
        found, expected = (
            getattr(each, name)(*(one.clone() if isinstance(one, Tensor) else one for one in given)).double()
            for each in (ops, plain)
        )
        errors.append(float((found - expected).norm() / expected.norm()))
    return max(errors)


def _arguments(
    tokens: int, device: torch.device, dtype: torch.dtype, dim: int, heads: int, seed: int = 0
) -> dict[str, Sequence[Any]]:
    """Random arguments of each operation."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    eps, angles = HOLOCINE_14B.eps, random(tokens, 1, dim // heads // 2).float()
    turn = angles.cos(), angles.sin()
    return {
        "modulate": (random(tokens, dim), random(dim), random(dim), eps),
        "norm": (random(tokens, dim), random(dim), eps),
        "norm_turn": (random(tokens, dim), random(dim), eps, *turn, heads),
        "gated_add_": (random(tokens, dim), random(dim), random(tokens, dim)),
    }
