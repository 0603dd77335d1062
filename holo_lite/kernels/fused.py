"""Whether the operations between matrix products take one pass over memory each, and the trial that decides.

In plain PyTorch a modulated norm reads and writes its tokens three times, a rotation five; between products that
take no longer than a few such passes this shows. On a card with Triton the kernels of `fused_triton` do it in one,
without rounding in between. They are compared with the plain operations on the device before they are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import torch
from torch import Tensor

from holo_lite.config import HOLOCINE_14B
from holo_lite.eightbit.coding import has_triton, quantize
from holo_lite.eightbit.limits import LinearMode
from holo_lite.eightbit.rows import FORMATS, Format, Rows
from holo_lite.errors import SettingsError, in_a_line, nearest
from holo_lite.model.operations import Norm, Ops
from holo_lite.model.positions import Positions
from holo_lite.story.shots import ShotLayout

SAYINGS = ("auto", "on", "off")
TOKENS = (5, 3)  # of a trial: a number, and another
GRID = ShotLayout((0,), 9, 2, 3)  # so small that the tokens lie in several frames and rows
FIRST = 4  # token of a trial
CLOSE = {torch.bfloat16: 2**-6, torch.float16: 2**-9, torch.float32: 1e-5}  # plain ones round a few times more
CODED_CLOSE = 2**-5  # in 8 bits a number may come out one step further


def check_fuse(said: str) -> None:
    """Raise `SettingsError` for what is none of auto, on and off."""
    if said not in SAYINGS:
        raise SettingsError(f"fuse '{said}': give one of {', '.join(SAYINGS)}{nearest(said, SAYINGS)}")


def pick_ops(
    said: str, device: torch.device, dtype: torch.dtype = torch.bfloat16, linear: LinearMode = "plain"
) -> tuple[Ops, str, str]:
    """Decide whether operations are fused: ``auto``, ``on`` or ``off`` → operations, ``on`` or ``off``, and why.

    ``auto`` is on where the kernels run and agree in a trial. That has the released model's widths and the run's
    `dtype` and 8 bits, so that what it compiles serves. Raises `SettingsError` where fusing was asked for and is
    not possible.
    """
    check_fuse(said)
    if said == "off":
        return Ops(), "off", "fuse off: as asked"
    form = None if linear == "plain" else FORMATS[linear]
    reason = _missing(device) or trial(device, dtype, HOLOCINE_14B.dim, HOLOCINE_14B.num_heads, form)
    if reason is None:
        why = "as asked" if said == "on" else "norms, rotations and sums take one pass each"
        return fused_ops(), "on", f"fuse on: {why}"
    if said == "on":
        raise SettingsError(f"fuse 'on': {reason}; give --fuse off")
    return Ops(), "off", f"fuse off: {reason}"


def fused_ops() -> Ops:
    """The operations by Triton, which must be installed."""
    from holo_lite.kernels.fused_triton import triton_ops

    return triton_ops()


def trial(device: torch.device, dtype: torch.dtype, dim: int, heads: int, form: Format | None) -> str | None:
    """Compare each fused operation with the plain one for different numbers of tokens; what is wrong, if anything.

    Raises `torch.OutOfMemoryError`, which says nothing about a kernel.
    """
    try:
        ops = fused_ops()
        with torch.inference_mode():
            for tokens in TOKENS:
                if reason := first_wrong(ops, TrialInputs(tokens, device, dtype, dim, heads), form):
                    return reason
    except torch.OutOfMemoryError:
        raise
    except Exception as raised:  # noqa: BLE001 - a compiler's, whose errors have no common root
        return f"the kernels do not run here ({in_a_line(raised, whole=True)})"
    return None


def first_wrong(ops: Ops, inputs: TrialInputs, form: Format | None) -> str | None:
    """What is wrong with the first operation that is not the plain one, if one is. form: of the 8 bits in use."""
    reasons = (inputs.wrong(field.name, ops, form) for field in fields(Ops))
    return next((reason for reason in reasons if reason is not None), None)


class TrialInputs:
    """Random arguments of each operation, the same every time. `tokens` tokens of width `dim`."""

    def __init__(self, tokens: int, device: torch.device, dtype: torch.dtype, dim: int, heads: int) -> None:
        self._random, self._to = torch.Generator().manual_seed(tokens), (device, dtype)
        self.x, self.update, self.wide = self._make(tokens, dim), self._make(tokens, dim), self._make(tokens, 64)
        self.one, self.other = self._make(dim), self._make(dim)
        self.weight = self._make(dim, 64)
        self.positions = Positions.of(GRID, dim // heads, device)
        self.tokens = slice(FIRST, FIRST + tokens)

    def wrong(self, name: str, ops: Ops, form: Format | None) -> str | None:
        """What is wrong with an operation of that name, as against the plain one."""
        bound = CLOSE[self.x.dtype] if form is None else max(CODED_CLOSE, CLOSE[self.x.dtype])
        for found, expected in zip(self.results(name, ops, form), self.results(name, Ops(), form), strict=True):
            off = float((found - expected).norm() / expected.norm())
            if not off <= bound:  # true of NaN, too
                return f"the kernel of {name.rstrip('_')} gives wrong results here: they are {off:.2g} off"
        return None

    def results(self, name: str, ops: Ops, form: Format | None) -> Iterator[Tensor]:
        """What an operation makes of its arguments, float64; one in 8 bits only where there is a form."""
        x, call, eps = self.x.clone(), getattr(ops, name), HOLOCINE_14B.eps
        if name in ("modulate", "layer_norm"):
            yield _numbers(call(x, self.one, self.other, eps, form))
        elif name == "norm_":
            yield _numbers(call(x, self.one, eps))
        elif name == "norm_turn_":
            yield _numbers(call(x, self.one, eps, self.positions, self.tokens))
        elif name == "gated_add_":
            yield from (_numbers(call(self.x.clone(), self.update, gate)) for gate in (self.one, None))
        elif name == "linear_gelu":
            yield _numbers(call(self.wide, self.weight, self.one))
        elif name == "gelu_":
            yield _numbers(call(x, form))
        elif form is not None:
            yield from self._in_8_bits(name, ops, form)

    def _in_8_bits(self, name: str, ops: Ops, form: Format) -> Iterator[Tensor]:
        if name == "quantize":
            yield _numbers(ops.quantize(self.x, form))
            return
        rows, weight = quantize(self.wide, form), quantize(self.weight, form)
        if name == "multiply":
            yield _numbers(ops.multiply(rows, weight, self.one, None))
            return
        for gate in (self.other, None):  # the second time its tile is known
            if name == "multiply_add_":
                yield _numbers(ops.multiply_add_(self.x.clone(), rows, weight, self.one, gate))
            else:
                yield from self._summed_and_normed(ops, rows, weight, gate)

    def _summed_and_normed(self, ops: Ops, rows: Rows, weight: Rows, gate: Tensor | None) -> Iterator[Tensor]:
        x, out = self.x.clone(), quantize(self.update, rows.format)
        one = 0.0 if gate is None else 1.0
        norm = Norm(self.other, self.update[0], HOLOCINE_14B.eps, one)
        yield _numbers(ops.multiply_add_norm_(x, rows, weight, self.one, gate, norm, out))
        yield _numbers(x)

    def _make(self, *shape: int) -> Tensor:
        device, dtype = self._to
        return torch.randn(*shape, generator=self._random).to(device, dtype)


def _missing(device: torch.device) -> str | None:
    """What the kernels need and is not there."""
    if device.type != "cuda":
        return "the kernels run on CUDA cards only"
    return None if has_triton() else "it needs Triton, which is not installed; pip install triton"


def _numbers(found: Tensor | Rows) -> Tensor:
    return (found.numbers() if isinstance(found, Rows) else found).double()
