"""Counts the bytes of tensors alive while it is active: an allocator's view of a forward, on any device."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


class LiveBytes(TorchDispatchMode):
    """`peak` is the most bytes alive at once in storages that were made while this mode was active.

    `without_meta`: those of modules built without memory are not counted, as they are where they stand for
    real ones. `computing=False`: what takes the time is left out, and its results are zeros (`uncomputed`): for
    bytes alone, numbers do not matter.
    """

    def __init__(self, *, without_meta=False, computing=True):
        super().__init__()
        self.without_meta = without_meta
        self.computing = computing
        self.now = self.peak = 0
        self._known = weakref.WeakSet()

    @classmethod
    def _should_skip_dynamo(cls):
        """PyTorch need not keep its compiler out at each of a million operations: nothing is compiled here."""
        return False

    def ignore(self, *tensors):
        """Storages that stand before the count begins."""
        for tensor in tensors:
            self._known.add(tensor.untyped_storage())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "prim":  # which asks for a tensor's device, and makes nothing
            return func(*args, **(kwargs or {}))
        # what an operation changes in place, or views, is no new memory
        for tensor in _tensors((*args, *kwargs.values()) if kwargs else args):
            self._known.add(tensor.untyped_storage())
        result = None if self.computing else uncomputed(func, args, kwargs or {})
        if func is ATTENTION and args[0].is_meta:
            return self._attend(args[0])
        if result is None:
            result = func(*args, **(kwargs or {}))
        for tensor in _tensors((result,)):
            self._count(tensor.untyped_storage())
        return result

    def _attend(self, q):
        """What a kernel of a card makes, where PyTorch makes all scores on meta: a result, and a row's sum."""
        made = torch.empty_like(q), torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device)
        for tensor in made:
            self._count(tensor.untyped_storage())
        return made[0]

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


def uncomputed(func, args, kwargs):
    """What an operation on floating-point numbers gives, with zeros in it; None for one that must be computed."""
    name = func.overloadpacket.__name__
    if name in RESULTS:
        return kwargs["out"] if "out" in kwargs else RESULTS[name](*args, **kwargs)
    return args[0] if name in IN_PLACE and args[0].is_floating_point() else None


def norms(x, _ord=2, dim=None, keepdim=False, *, dtype=None):
    """One of each row. That of everything is one number, by which something may be decided: it is computed."""
    if dim is None:
        return None
    shape = list(x.shape)
    shape[dim[0]] = 1
    made = x.new_zeros(shape, dtype=dtype)
    return made if keepdim else made.squeeze(dim[0])


def convolved(x, weight, _bias, stride, padding, *_):
    """Channels last, as pictures and weights are that come in."""
    sides = [
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    ]
    return x.new_zeros(len(x), *sides, len(weight)).movedim(-1, 1)


IN_PLACE = {"add_", "addcmul_", "addmm_", "clamp_", "copy_", "div_", "gelu_", "mul_", "round_", "rsqrt_", "silu_"}
IN_PLACE |= {"square_", "sub_"}
RESULTS = {  # their shapes and dtypes; what is not here is cheap, or lays its result out in a way of its own
    "_int_mm": lambda a, b: a.new_zeros(len(a), b.shape[1], dtype=torch.int32),
    "addmm": lambda _, a, b, **_kwargs: a.new_zeros(len(a), b.shape[1]),
    "convolution": convolved,
    "gelu": lambda x, **_: x.new_zeros(x.shape),
    "layer_norm": lambda x, *_: x.new_zeros(x.shape),
    "linalg_vector_norm": norms,
    "linear": lambda x, weight, *_: x.new_zeros(*x.shape[:-1], len(weight)),
    "scaled_dot_product_attention": lambda q, *_: q.new_zeros(q.transpose(-3, -2).shape).transpose(-3, -2),
}


def _tensors(values):
    """The tensors among an operation's arguments or results. Plain lists: this is asked a million times."""
    found = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, tuple | list) and not (value and type(value[0]) is int):
            found.extend(_tensors(value))
    return found
