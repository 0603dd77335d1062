"""The device's memory: limiting it, measuring it, and freeing it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from holo_lite.errors import RoomError
from holo_lite.plan.ladder import is_out_of_memory


@contextmanager
def capped(device: torch.device, budget: int) -> Iterator[None]:
    """Hold the allocator to a budget in bytes.

    Without a cap a Windows driver moves what does not fit to main memory, silently and at a tenth of the speed. It
    bounds what this process reserves; what others hold, the budget has taken off already.
    """
    if device.type != "cuda":
        yield
        return
    _, total = torch.cuda.mem_get_info(device)  # what the allocator takes the part of
    index = torch.cuda.current_device() if device.index is None else device.index  # a plain "cuda" is refused below
    torch.cuda.set_per_process_memory_fraction(min(1.0, budget / total), index)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, index)


@contextmanager
def naming_shortage() -> Iterator[None]:
    """Turn a lack of memory that no smaller plan helps against, such as for the noise itself, into `RoomError`."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise RoomError("memory ran out before there was anything to make smaller; close other programs") from error


@contextmanager
def repeatable() -> Iterator[None]:
    """Let cuDNN choose its algorithms by rule.

    As a benchmark it takes the one that is fastest at the moment, which is another one from run to run, and with it
    are the last bits.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def few_threads(count: int) -> Iterator[None]:
    """Have a CPU compute with this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def most_used(device: torch.device) -> int | None:
    """The most bytes tensors have held on a card so far; None on a CPU, where that is not counted."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def clear(device: torch.device) -> None:
    """Free the memory that is no longer used."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
