"""Counts the bytes of tensors alive while it is active: an allocator's view of a forward, on any device."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class LiveBytes(TorchDispatchMode):
    """`peak` is the most bytes alive at once in storages that were made while this mode was active.

    `without_meta`: those of modules built without memory are not counted, as they are where they stand for
    real ones.
    """

    def __init__(self, *, without_meta=False):
        super().__init__()
        self.without_meta = without_meta
        self.now = self.peak = 0
        self._known = weakref.WeakSet()

    def ignore(self, *tensors):
        """Storages that stand before the count begins."""
        for tensor in tensors:
            self._known.add(tensor.untyped_storage())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        # what an operation changes in place, or views, is no new memory
        for tensor in _tensors((args, kwargs)):
            self._known.add(tensor.untyped_storage())
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._count(tensor.untyped_storage())
        return result

    def _count(self, storage):
        if storage in self._known or (self.without_meta and storage.device.type == "meta"):
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size):
        self.now -= size


def _tensors(value):
    """The tensors among an operation's arguments or results."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors(each)
