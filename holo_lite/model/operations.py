"""The operations between matrix products, and the products in 8 bits, as one record that can be exchanged.

By default each is its equation by PyTorch's own functions. `holo_lite.kernels.fused` has the same in one pass over
memory. A `form` asks for a result in 8 bits, which the next product takes; None for the numbers themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from holo_lite.eightbit.coding import quantize
from holo_lite.eightbit.product import multiply
from holo_lite.eightbit.rows import Format, Rows
from holo_lite.model import equations
from holo_lite.model.positions import Positions

LinearInput = Tensor | Rows


def modulate(
    x: Tensor,
    shift: Tensor,
    scale: Tensor,
    eps: float,
    form: Format | None = None,
    out: LinearInput | None = None,
) -> LinearInput:
    """LN(x) · (1 + scale) + shift; in `out`, where that is given. x: (n, d); shift, scale: (d,)."""
    found = coded(equations.modulate(x, shift, scale, eps), form)
    return found if out is None else _written(found, out)


def _written(found: LinearInput, out: LinearInput) -> LinearInput:
    for place, numbers in zip(_parts(out), _parts(found), strict=True):
        place.copy_(numbers)
    return out


def _parts(x: LinearInput) -> tuple[Tensor, ...]:
    return (x.codes, x.scale) if isinstance(x, Rows) else (x,)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, form: Format | None = None) -> LinearInput:
    """LN(x) · weight + bias. x: (n, d); weight, bias: (d,)."""
    return coded(equations.layer_norm(x, eps, weight, bias), form)


def norm_turn_(x: Tensor, weight: Tensor, eps: float, positions: Positions, tokens: slice) -> Tensor:
    """RMSNorm over all of d, then each head turned by its token's position, in place. x: (n, d), n tokens."""
    heads = equations.rms_norm_(x, weight, eps).view(len(x), -1, positions.head_dim)
    equations.rotate_(heads, *positions.rotations(tokens))
    return x


def gated_add_(x: Tensor, update: Tensor, gate: Tensor | None) -> Tensor:
    """x += gate · update, or update alone. x, update: (n, d); gate: (d,)."""
    return x.add_(update) if gate is None else equations.gated_add_(x, gate, update)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """GELU(x Wᵀ + b), by tanh. x: (n, in); weight: (out, in); bias: (out,)."""
    return equations.gelu_(F.linear(x, weight, bias))


def gelu_(x: Tensor, form: Format | None) -> LinearInput:
    """GELU by tanh; may use x's memory. x: (n, f)."""
    return coded(equations.gelu_(x), form)


def coded(x: Tensor, form: Format | None) -> LinearInput:
    """x (n, k) as a product takes it: in 8 bits where it has a format."""
    return x if form is None else quantize(x, form)


def multiply_add_(x: Tensor, rows: Rows, weight: Rows, bias: Tensor | None, gate: Tensor | None) -> Tensor:
    """x += gate · (rows · weightᵀ + bias), or without the gate. x: (n, out); gate: (out,)."""
    return gated_add_(x, multiply(rows, weight, bias), gate)


@dataclass(frozen=True)
class Norm:
    """What a layer makes of the stream first: LN(x) · (one + scale) + shift. scale, shift: (d,).

    one: 1 where it modulates, 0 in an affine norm.
    """

    scale: Tensor
    shift: Tensor
    eps: float
    one: float

    def of(self, x: Tensor, out: Rows) -> Rows:
        """The same by the functions above, in the form and memory of `out`. x: (n, d)."""
        if self.one:
            found = modulate(x, self.shift, self.scale, self.eps, out.format)
        else:
            found = layer_norm(x, self.scale, self.shift, self.eps, out.format)
        _written(found, out)
        return out


def multiply_add_norm_(
    x: Tensor, rows: Rows, weight: Rows, bias: Tensor | None, gate: Tensor | None, norm: Norm, out: Rows
) -> Rows:
    """`multiply_add_`, and of its result what the next layer begins with, in `out`. x: (n, d)."""
    return norm.of(multiply_add_(x, rows, weight, bias, gate), out)


@dataclass(frozen=True)
class Ops:
    """The operations between matrix products, each with the meaning of its default.

    A name that ends in an underscore: its first argument is changed, or its memory used. `multiply` is a product in
    8 bits, into its last argument or a new tensor, and `multiply_add_` one whose result is added to x, times a gate
    or as it is; `multiply_add_norm_` gives the norm of that sum, too. `modulate` may be given the memory for its
    result.
    """

    modulate: Callable[..., LinearInput] = modulate
    layer_norm: Callable[[Tensor, Tensor, Tensor, float, Format | None], LinearInput] = layer_norm
    norm_: Callable[[Tensor, Tensor, float], Tensor] = equations.rms_norm_
    norm_turn_: Callable[[Tensor, Tensor, float, Positions, slice], Tensor] = norm_turn_
    gated_add_: Callable[[Tensor, Tensor, Tensor | None], Tensor] = gated_add_
    linear_gelu: Callable[[Tensor, Tensor, Tensor | None], Tensor] = linear_gelu
    gelu_: Callable[[Tensor, Format | None], LinearInput] = gelu_
    quantize: Callable[[Tensor, Format], Rows] = quantize
    multiply: Callable[[Rows, Rows, Tensor | None, Tensor | None], Tensor] = multiply
    multiply_add_: Callable[[Tensor, Rows, Rows, Tensor | None, Tensor | None], Tensor] = multiply_add_
    multiply_add_norm_: Callable[..., Rows] = multiply_add_norm_
