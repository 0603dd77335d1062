"""Every tensor on the card as a block of the allocator's model, from the operation that makes it to its end.

Tensors on meta stand for the card's, as in `benchmarks.count.tally`: the runtime's own code runs at full size, and
each new storage is asked of the model at that moment. The blocks of an expert are alike, and nothing that is made
in one outlives it: the first is run, and what it asked for is asked for again in the order in which it was. So it
is with whole phases that are the same in several runs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.allocator.caching import Block, CachingAllocator
from benchmarks.count.tally import tensors_of

PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm", "_addmm_activation"})


WORKSPACE, EMPTY = 0, -1  # numbers of no storage


class Asked(NamedTuple):
    """A storage that begins, with its bytes, or that ends; or `WORKSPACE`, before a product; or `EMPTY`."""

    number: int
    nbytes: int | None = None


Told = dict[Hashable, list[Asked]]  # by what was run, what it asked for


class WatchedCard(TorchDispatchMode):
    """While it is active, tensors on meta take memory of `allocator`.

    `workspace`: what the first product takes; `told`: what is known from cards before.
    """

    def __init__(self, allocator: CachingAllocator, workspace: int = 0, told: Told | None = None) -> None:
        super().__init__()
        self.allocator, self._workspace = allocator, workspace
        self._blocks: dict[int, Block] = {}
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        self._begun, self._quiet = 0, False
        self._alike = {} if told is None else told
        self._telling: list[list[Asked]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation, and take memory for what it makes."""
        kwargs = kwargs or {}
        if self._quiet or func.namespace == "prim":  # prim.device asks, and does nothing
            return func(*args, **kwargs)
        with self:
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        if _is_to_host(func, args, kwargs):
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if func._schema.name.partition("::")[2] in PRODUCTS:
            self.take_workspace()
        self._known.update(tensor.untyped_storage() for tensor in tensors_of((args, kwargs)))
        result = func(*args, **kwargs)
        for tensor in tensors_of(result):
            if tensor.is_meta:
                self._watch(tensor.untyped_storage())
        return result

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """What is made in the context takes no memory."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def quietly(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose tensors take no memory."""

        def called(*given: Any, **by_name: Any) -> Any:
            with self.quiet():
                return call(*given, **by_name)

        return called

    def once(self, likeness: Hashable, call: Callable[[], None]) -> None:
        """Make a call the first time; later only ask again for what it asked for. None of that may outlive it."""
        if likeness in self._alike:
            self._ask_again(self._alike[likeness])
            return
        told: list[Asked] = []
        self._telling.append(told)
        try:
            call()
        finally:
            self._telling.pop()
        storages = [each for each in told if each.number > 0]
        begun, ended = ([each.number for each in storages if (each.nbytes is None) is end] for end in (False, True))
        assert sorted(begun) == sorted(ended), "all that began has ended"
        self._alike[likeness] = told

    def take_workspace(self) -> None:
        """Of the matrix library, for good, once."""
        self._tell(Asked(WORKSPACE))
        if self._workspace:
            self.allocator.take(self._workspace)
            self._workspace = 0

    def empty_cache(self) -> None:
        """Give what is free back to the card."""
        self._tell(Asked(EMPTY))
        self.allocator.empty_cache()

    def _watch(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        if storage.nbytes():
            number = self._begun = self._begun + 1
            self._begin(Asked(number, storage.nbytes()))
            weakref.finalize(storage, self._end, number)

    def _begin(self, asked: Asked) -> None:
        assert asked.nbytes is not None
        self._blocks[asked.number] = self.allocator.take(asked.nbytes)
        self._tell(asked)

    def _end(self, number: int) -> None:
        self.allocator.give_back(self._blocks.pop(number))
        self._tell(Asked(number))

    def _tell(self, asked: Asked) -> None:
        for told in self._telling:
            told.append(asked)

    def _ask_again(self, told: Sequence[Asked]) -> None:
        """Under other numbers, for what this is a part of may be told, too."""
        numbers: dict[int, int] = {}
        for number, nbytes in told:
            if number == WORKSPACE:
                self.take_workspace()
            elif number == EMPTY:
                self.empty_cache()
            elif nbytes is None:
                self._end(numbers.pop(number))
            else:
                numbers[number] = self._begun = self._begun + 1
                self._begin(Asked(self._begun, nbytes))


def _is_to_host(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operation copies from the card to the host, which meta cannot."""
    to = kwargs.get("device")
    is_copy = func is torch.ops.aten._to_copy.default and to is not None
    return is_copy and args[0].is_meta and torch.device(to).type == "cpu"
