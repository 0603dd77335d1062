"""A linear layer that is made ready once per visit.

A block is visited once per denoising step, and within the visit its weights meet the tokens in many chunks.
Whatever must be done to a stored weight before it can be multiplied is done by `unpacked`, once, and lives as long
as the caller holds what it returns: nothing for a plain weight, unpacking for one stored under a scheme. An
adapter's product is added on the way; the weight that is kept never changes.

In 8 bits a weight is quantized a slice of rows at a time, so that it is never dense as a whole, unless it is stored
in that very format: then it is multiplied as it lies. One whose sides do not suit the format is multiplied plainly.

What `unpacked` gives is an `Affine`. Its input is made ready before the product for two reasons: layers of one kind
that read one input share it, and in 8 bits the input itself can go before the product is made. What makes the input
can give it in the layer's `form` at once; `prepare` does so for numbers that are there already.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from holo_lite.eightbit.coding import quantize, quantize_slices
from holo_lite.eightbit.limits import LinearMode, unfit
from holo_lite.eightbit.rows import FORMATS, Format, Rows
from holo_lite.lora.low_rank import LowRank
from holo_lite.model.operations import LinearInput, Norm, Ops
from holo_lite.schemes.plain import Plain
from holo_lite.schemes.registry import find

PLAIN_OPS = Ops()


class Affine(ABC):
    """y = x Wᵀ + b."""

    @property
    @abstractmethod
    def form(self) -> Format | None:
        """The format of its input; None: the numbers themselves."""

    @abstractmethod
    def prepare(self, x: Tensor) -> LinearInput:
        """x (n, in) as the product takes it."""

    @abstractmethod
    def apply(self, prepared: LinearInput, out: Tensor | None = None) -> Tensor:
        """An input in this layer's form → (n, out), in the dtype of x; in `out`, where that is given."""

    @abstractmethod
    def add_(self, x: Tensor, prepared: LinearInput, gate: Tensor | None = None) -> None:
        """x += gate · y, or y alone. x: (n, out); gate: (out,)."""

    @abstractmethod
    def gelu(self, prepared: LinearInput, form: Format | None) -> LinearInput:
        """GELU(y), by tanh, in the form that the next layer takes."""

    def __call__(self, x: Tensor) -> Tensor:
        """x: (n, in) → (n, out)."""
        return self.apply(self.prepare(x))


@dataclass(frozen=True)
class PlainAffine(Affine):
    """With plain tensors. weight: (out, in); bias: (out,) or None."""

    weight: Tensor
    bias: Tensor | None
    ops: Ops = PLAIN_OPS

    @property
    def form(self) -> None:
        """None."""
        return

    def prepare(self, x: Tensor) -> Tensor:
        """x itself."""
        return x

    def apply(self, prepared: LinearInput, out: Tensor | None = None) -> Tensor:
        """(n, in) → (n, out)."""
        assert isinstance(prepared, Tensor), "prepared for a layer of another kind"
        if out is None:
            return F.linear(prepared, self.weight, self.bias)
        if self.bias is None:
            return torch.mm(prepared, self.weight.t(), out=out)
        return torch.addmm(self.bias, prepared, self.weight.t(), out=out)

    def add_(self, x: Tensor, prepared: LinearInput, gate: Tensor | None = None) -> None:
        """x += gate · y. x: (n, out); gate: (out,)."""
        self.ops.gated_add_(x, self.apply(prepared), gate)

    def gelu(self, prepared: LinearInput, form: Format | None) -> LinearInput:
        """(n, in) → (n, out), or in 8 bits."""
        assert isinstance(prepared, Tensor), "prepared for a layer of another kind"
        inner = self.ops.linear_gelu(prepared, self.weight, self.bias)
        del prepared
        return inner if form is None else self.ops.quantize(inner, form)


@dataclass(frozen=True)
class CodedAffine(Affine):
    """In 8 bits. weight: rows (out, in); bias: (out,) or None."""

    weight: Rows
    bias: Tensor | None
    ops: Ops = PLAIN_OPS

    @property
    def form(self) -> Format:
        """That of its weight."""
        return self.weight.format

    def prepare(self, x: Tensor) -> Rows:
        """x in 8 bits, each row with a scale of its own."""
        return self.ops.quantize(x, self.weight.format)

    def apply(self, prepared: LinearInput, out: Tensor | None = None) -> Tensor:
        """(n, in) → (n, out)."""
        assert isinstance(prepared, Rows), "prepared for a layer of another kind"
        return self.ops.multiply(prepared, self.weight, self.bias, out)

    def add_(self, x: Tensor, prepared: LinearInput, gate: Tensor | None = None) -> None:
        """x += gate · y. x: (n, out); gate: (out,)."""
        assert isinstance(prepared, Rows), "prepared for a layer of another kind"
        self.ops.multiply_add_(x, prepared, self.weight, self.bias, gate)

    def add_normed_(
        self, x: Tensor, prepared: LinearInput, gate: Tensor | None, norm: Norm, out: LinearInput
    ) -> None:
        """x += gate · y, and what the next layer makes of that first, in `out`. x: (n, out); gate: (out,)."""
        assert isinstance(prepared, Rows), "prepared for a layer of another kind"
        assert isinstance(out, Rows), "the next layer takes 8 bits"
        self.ops.multiply_add_norm_(x, prepared, self.weight, self.bias, gate, norm, out)

    def gelu(self, prepared: LinearInput, form: Format | None) -> LinearInput:
        """(n, in) → (n, out), or in 8 bits; what is prepared goes before the result is rounded."""
        inner = self.apply(prepared)
        del prepared
        return self.ops.gelu_(inner, form)


class StoredLinear(nn.Module, ABC):
    """A weight (out, in) that must be made before it can be multiplied."""

    @abstractmethod
    def unpack(self, dtype: torch.dtype) -> Tensor:
        """A new tensor of the weight in `dtype`."""

    def slices(self) -> Iterator[tuple[slice, Tensor]]:
        """The weight a slice of rows at a time: which, and (n, in) float32 that the caller owns."""
        yield slice(None), self.unpack(torch.float32)

    def coded(self, _form: Format) -> tuple[Tensor, Tensor] | None:
        """Codes (out, in) and scales (out, 1), if the weight is stored so."""
        return None


class Packed(StoredLinear):
    """A weight (out, in) as the parts its scheme stores it in, each a buffer."""

    def __init__(self, scheme: str, shape: tuple[int, int]) -> None:
        super().__init__()
        self.scheme, self.shape = scheme, shape
        for name, part in find(scheme).parts(shape).items():
            self.register_buffer(name, torch.empty(part.shape, dtype=part.dtype))

    def unpack(self, dtype: torch.dtype) -> Tensor:
        """A new tensor of the weight in `dtype`."""
        return find(self.scheme).unpack(dict(self.named_buffers()), self.shape, dtype)

    def slices(self) -> Iterator[tuple[slice, Tensor]]:
        """The weight slice by slice, as its scheme cuts it."""
        return find(self.scheme).slices(dict(self.named_buffers()), self.shape)

    def coded(self, form: Format) -> tuple[Tensor, Tensor] | None:
        """The parts themselves, if the scheme's format is this one."""
        scheme = find(self.scheme)
        return scheme.coded(dict(self.named_buffers())) if scheme.eight_bits == form.name else None


class Linear(nn.Module):
    """A linear layer whose weight is a plain parameter in the compute dtype, or stored in another form.

    `adapter` is added to the weight of every visit. It is not a tensor of the module: the code that moves those
    knows nothing of it.
    """

    weight: nn.Parameter | StoredLinear
    adapter: LowRank | None

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.shape = (outputs, inputs)
        self.adapter = None
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def unpacked(
        self, dtype: torch.dtype | None = None, mode: LinearMode = "plain", ops: Ops = PLAIN_OPS
    ) -> Affine:
        """Give the layer as a function of its input, valid for this visit; a stored weight in `dtype` or 8 bits."""
        compute = dtype or (self.bias.dtype if self.bias is not None else torch.get_default_dtype())
        if mode == "plain" or unfit(mode, *self.shape) is not None:
            return PlainAffine(self._dense(compute), self.bias, ops)
        return CodedAffine(self._coded(FORMATS[mode], compute), self.bias, ops)

    def _coded(self, form: Format, dtype: torch.dtype) -> Rows:
        """The weight in 8 bits, with the adapter's product added before it is rounded."""
        stored = self.weight
        if self.adapter is not None:
            return quantize_slices(self._added(self.adapter), self.shape, form, dtype)
        if not isinstance(stored, StoredLinear):
            return quantize(stored.detach(), form)
        if (parts := stored.coded(form)) is not None:
            return Rows(form, *parts, dtype)
        return quantize_slices(stored.slices(), self.shape, form, dtype)

    def _added(self, adapter: LowRank) -> Iterator[tuple[slice, Tensor]]:
        """The weight slice by slice, float32, with the product added."""
        stored = self.weight
        if isinstance(stored, StoredLinear):
            slices = stored.slices()
        else:
            slices = Plain().slices({"weight": stored.detach()}, self.shape)
        for rows, numbers in slices:
            yield rows, LowRank(adapter.up[rows], adapter.down, adapter.scale).added_to(numbers, fresh=True)
            del numbers

    def _dense(self, dtype: torch.dtype) -> Tensor:
        """The weight as a plain tensor, in `dtype` if it must be unpacked, with the adapter's product added."""
        stored = self.weight
        if not isinstance(stored, StoredLinear):
            return stored if self.adapter is None else self.adapter.added_to(stored, fresh=False)
        weight = stored.unpack(dtype)
        if self.adapter is None:
            return weight
        fresh = all(weight is not part for part in stored.buffers())
        return self.adapter.added_to(weight, fresh=fresh)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer once. x: (n, in) → (n, out)."""
        return self.unpacked(x.dtype)(x)


def pack_linears(module: nn.Module, schemes: Mapping[str, str]) -> None:
    """Make the named weights (``blocks.0.ffn.0.weight`` → ``nf4``) of a module on the meta device packed ones.

    A name that is no linear layer's here, or of a shape the scheme cannot hold, is passed over: who compares the
    module with a file will find the parts superfluous.
    """
    modules = dict(module.named_modules())
    for name, scheme in schemes.items():
        owner = name.removesuffix(".weight")
        linear = modules.get(owner)
        if not isinstance(linear, Linear | nn.Linear) or owner == name:
            continue
        weight: Any = linear.weight
        outputs, inputs = weight.shape
        if find(scheme).fits((outputs, inputs)) is not None:
            continue
        packed = Linear(inputs, outputs, bias=linear.bias is not None)
        del packed.weight
        packed.weight = Packed(scheme, (outputs, inputs))
        parent, _, child = owner.rpartition(".")
        setattr(module.get_submodule(parent), child, packed)
