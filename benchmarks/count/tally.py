"""Counts what an eager run asks of a device: launches, bytes, operations, allocations, and dispatches on the host.

It runs over tensors on meta, which stands for the card: they have shapes, strides and storages, and no numbers, so
the real code runs at its true size in seconds.

One operation of PyTorch that is no view is one launch, and moves each argument and each result once
(`benchmarks.count.sectors`). That is too little where an operation needs several passes, and too much where a cache
of the card keeps what the last one wrote. A copy between host and device is no launch. PyTorch's attention is one
launch, whose scores never reach memory. What is not PyTorch's operation, or is another one on a card, is charged
as a whole: `Tally.charge`, `Tally.charge_bytes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.count.operations import Kind, attention_work, launch_of, work_of
from benchmarks.count.sectors import moved

CARD = torch.device("meta")
ATTENTION = torch.ops.aten.scaled_dot_product_attention.default

# Views by another name, and memory that is taken and not written.
NO_LAUNCH = frozenset(
    {
        *("_unsafe_view", "_reshape_alias", "lift_fresh", "detach_", "set_", "resize_"),
        *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
        *("_local_scalar_dense", "sym_size", "sym_stride", "sym_numel"),
    }
)


@dataclass(frozen=True)
class Launch:
    """Launches of one operation. layer: where; read, written: bytes as `sectors.moved` counts; operations: FLOP."""

    layer: str
    name: str
    kind: Kind
    read: int
    written: int
    operations: int = 0
    count: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes moved."""
        return self.read + self.written


class Tally(TorchDispatchMode):
    """`launches` in their order; `allocations` of memory on the device; `dispatches`, views among them."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[Launch] = []
        self.allocations = self.dispatches = 0
        self._layer, self._quiet = "", False

    @contextmanager
    def within(self, layer: str) -> Iterator[None]:
        """Name what is launched in the context."""
        before, self._layer = self._layer, layer
        try:
            yield
        finally:
            self._layer = before

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Count nothing in the context."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def charge(
        self,
        name: str,
        reads: Iterable[Tensor],
        writes: Iterable[Tensor],
        *,
        kind: Kind = "other",
        operations: int = 0,
        count: int = 1,
    ) -> None:
        """Count launches that read and write these tensors, each once in all."""
        read, written = (sum(moved(tensor) for tensor in tensors) for tensors in (reads, writes))
        self.launches.append(Launch(self._layer, name, kind, read, written, operations, count))

    def charge_bytes(self, name: str, read: int, written: int, *, count: int = 1) -> None:
        """Count launches of this project's own kernels, whose bytes are known; none of them adds bytes alone."""
        self.launches.append(Launch(self._layer, name, "other", read, written, count=count))

    def layered(self, layer: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose launches are of this layer."""

        def named(*given: Any, **by_name: Any) -> Any:
            with self.within(layer):
                return call(*given, **by_name)

        return named

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count an operation, after what it is made of where it is a composite."""
        kwargs = kwargs or {}
        if self._quiet or func.namespace == "prim":  # prim.device asks, and does nothing
            return func(*args, **kwargs)
        if func is ATTENTION:
            return self._attend(*args, **kwargs)
        with self:
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        result = func(*args, **kwargs)
        self._count(func, args, kwargs, result)
        return result

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """Attention of (…, n, D) to (…, m, D), by a kernel of PyTorch's: its result lies in memory as q does."""
        with self.quiet():
            out = torch.empty_like(q) if q.shape[-1] == v.shape[-1] else q.new_empty(*q.shape[:-1], v.shape[-1])
        self.dispatches += 1
        self.allocations += 1
        given = [q, k, v] if mask is None else [q, k, v, mask]
        self.charge("attention", given, [out], kind="attention", operations=attention_work([q, k], out))
        return out

    def _count(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        name = func._schema.name.partition("::")[2]
        given, made = tensors_of((args, kwargs)), tensors_of(result)
        if not any(tensor.is_meta for tensor in (*given, *made)):
            return
        self.dispatches += 1
        before = {tensor.untyped_storage()._cdata for tensor in given}
        self.allocations += len({t.untyped_storage()._cdata for t in made} - before)
        if func.is_view or name in NO_LAUNCH or not all(t.is_meta for t in (*given, *made) if t.ndim):
            return
        work = work_of(name, args, result)
        for each in launch_of(func, name, args, kwargs, made):
            self.launches.append(
                Launch(self._layer, each.name, work.kind, each.read, each.written, work.operations)
            )
            work = work.none

    def summed(self, *, kind: Kind | None = None, beside: bool = False) -> Sum:
        """All launches of a kind, or all; `beside`: those that are neither products nor attentions."""
        kinds = {"other"} if beside else {"product", "attention", "other"} if kind is None else {kind}
        found = [each for each in self.launches if each.kind in kinds]
        return Sum.of(found)

    def by_operation(self) -> dict[tuple[str, str], Sum]:
        """Sums by layer and name, most bytes first."""
        groups: dict[tuple[str, str], list[Launch]] = {}
        for each in self.launches:
            groups.setdefault((each.layer, each.name), []).append(each)
        sums = {key: Sum.of(found) for key, found in groups.items()}
        return dict(sorted(sums.items(), key=lambda item: -item[1].nbytes))


@dataclass(frozen=True)
class Sum:
    """Launches, bytes and operations together."""

    launches: int = 0
    read: int = 0
    written: int = 0
    operations: int = 0

    @classmethod
    def of(cls, found: Iterable[Launch]) -> Sum:
        """Add launches up."""
        found = list(found)
        return cls(
            sum(each.count for each in found),
            sum(each.read for each in found),
            sum(each.written for each in found),
            sum(each.operations for each in found),
        )

    @property
    def nbytes(self) -> int:
        """Bytes moved."""
        return self.read + self.written


@contextmanager
def on_a_card() -> Iterator[Tally]:
    """A tally of what is done in the context, in which no operation is recorded for gradients."""
    with torch.inference_mode(), Tally() as tally:
        yield tally


def put_on_card(module: nn.Module, dtypes: Callable[[str], torch.dtype]) -> None:
    """Give a module's parameters memory on the card, by name in the dtype that `dtypes` says."""
    for name, parameter in list(module.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        there = torch.empty(parameter.shape, dtype=dtypes(name), device=CARD)
        setattr(module.get_submodule(owner), leaf, nn.Parameter(there, requires_grad=False))


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors in an operation's arguments or results. Plain loops: this is asked a million times."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return []
    return [tensor for each in value for tensor in tensors_of(each)]
