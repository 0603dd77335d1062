"""What PyTorch's operations read, write and compute.

Most read each argument and write each result, once. The tables here are the exceptions, and the operations whose
floating-point work counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from torch.utils._pytree import tree_leaves

from benchmarks.count.sectors import moved

Kind = Literal["product", "attention", "other"]

ONLY_WRITTEN = frozenset(["copy_", "fill_", "zero_", "normal_", "uniform_", "random_"])  # their first argument
GATHERS = frozenset(["index", "gather", "index_select", "embedding"])
SCATTERS = frozenset(["index_put_", "index_put", "scatter_", "index_copy_"])


@dataclass(frozen=True)
class Work:
    """Floating-point operations, and whether they are a matrix product's (or convolution's) or attention's."""

    kind: Kind = "other"
    operations: int = 0

    @property
    def none(self) -> Work:
        """What is left once they are counted."""
        return Work()


@dataclass(frozen=True)
class Traffic:
    """One launch's bytes."""

    name: str
    read: int
    written: int


def work_of(name: str, args: Sequence[Any], result: Any) -> Work:
    """What an operation computes. `name` without its overload."""
    count = PRODUCTS.get(name)
    if count is not None:
        return Work("product", count(args, result))
    if "attention" in name and name.startswith("_"):
        return Work("attention", attention_work(args, result))
    return Work()


def launch_of(
    func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], made: Sequence[Tensor]
) -> Iterator[Traffic]:
    """The launches of an operation: one, but a convolution's bias is a second one, as PyTorch adds it."""
    if name in GATHERS:
        places = [tensor for tensor in _tensors(args[1:]) if not tensor.is_floating_point()]
        yield Traffic(name, sum(map(moved, (*places, *made))), sum(map(moved, made)))
    elif name in SCATTERS:
        source = _tensors(args[1:])
        yield Traffic(name, sum(map(moved, source)), moved(source[-1]))
    elif name == "convolution":
        yield Traffic(name, moved(args[0]) + moved(args[1]), moved(made[0]))
        if args[2] is not None:
            yield Traffic("a convolution's bias", moved(made[0]) + moved(args[2]), moved(made[0]))
    else:
        reads, writes = _by_schema(func, name, args, kwargs)
        yield Traffic(name, sum(map(moved, reads)), sum(map(moved, writes or made)))


def _by_schema(
    func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Tensor], list[Tensor]]:
    """The arguments that are read, and those that are written."""
    reads: list[Tensor] = []
    writes: list[Tensor] = []
    for place, argument in enumerate(func._schema.arguments):
        given = args[place] if place < len(args) else kwargs.get(argument.name)
        tensors = _tensors(given)
        changed = argument.alias_info is not None and argument.alias_info.is_write
        if changed:
            writes += tensors
        if not changed or not (argument.is_out or name in ONLY_WRITTEN):
            reads += tensors
    return reads, writes


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _mm(args: Sequence[Any], _: Any) -> int:
    return 2 * args[0].shape[0] * args[0].shape[1] * args[1].shape[1]


def _addmm(args: Sequence[Any], result: Any) -> int:
    return _mm(args[1:], result)


def _bmm(args: Sequence[Any], _: Any) -> int:
    return 2 * math.prod(args[0].shape) * int(args[1].shape[2])


def _baddbmm(args: Sequence[Any], result: Any) -> int:
    return _bmm(args[1:], result)


def _convolution(args: Sequence[Any], result: Any) -> int:
    return 2 * result.numel() * math.prod(args[1].shape[1:])


def attention_work(args: Sequence[Any], _: Any) -> int:
    """Operations of attention of q (…, n, D) to k (…, m, D)."""
    q, k = args[0], args[1]
    return 4 * math.prod(q.shape) * int(k.shape[-2])


PRODUCTS: Mapping[str, Callable[[Sequence[Any], Any], int]] = {
    "mm": _mm,
    "addmm": _addmm,
    "_addmm_activation": _addmm,
    "_scaled_mm": _mm,
    "_int_mm": _mm,
    "bmm": _bmm,
    "baddbmm": _baddbmm,
    "convolution": _convolution,
}
