"""Triton's interpreter without two of its detours, which are most of what it does in our kernels.

A row is reduced by a function of ours as on a card, halves of it at once, and not one number after the other. And a
function that a kernel calls finds the language as its first call left it: the interpreter looks at every call for
all that is to be replaced in it, and leaves it replaced.
"""

from unittest.mock import patch

from triton.runtime.interpreter import InterpretedFunction, ReduceOps


def in_halves(reduction, given):
    """given: one row of 2ⁿ numbers."""
    (row,) = given
    numbers = row.handle.data
    assert numbers.ndim == 1
    while len(numbers) > 1:
        halves = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
        numbers = reduction.combine_fn.fn(*(reduction.to_tensor(half, row.dtype) for half in halves)).handle.data
    return [reduction.to_tensor(numbers[0], row.dtype)]


def without_detours():
    """For as long as this process runs."""
    call, called = InterpretedFunction.__call__, set()

    def called_again(function, *args, **kwargs):
        if function in called:
            return function.rewrite()(*args, **kwargs)
        called.add(function)
        return call(function, *args, **kwargs)

    patch.object(ReduceOps, "generic_reduce", in_halves).start()
    patch.object(InterpretedFunction, "__call__", called_again).start()
