"""What of `torch.distributed` is used here, and nothing else calls it: stores, and transports of tensors.

Its transports are made one by one and not as the process's one group, since a team makes new ones for every
attempt: connections on which somebody may still be waiting are never used again.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any, Literal, Protocol, cast

from torch import Tensor, distributed

Transport = Literal["gloo", "nccl"]
LOOPBACK = "127.0.0.1"
FOREVER = timedelta(days=30)  # the watch ends a wait, no clock does
JOINING = timedelta(minutes=10)  # until all members have come
ANSWER = timedelta(seconds=60)  # of a store
_torch: Any = distributed  # whose types leave most of this out


class Store(Protocol):
    """Small texts under names, for all ranks."""

    def set(self, key: str, value: str) -> None:
        """Put a text."""

    def get(self, key: str) -> bytes:
        """The text, once it is there."""

    def check(self, keys: list[str]) -> bool:
        """Whether all are there."""


class Work(Protocol):
    """A transfer that has begun."""

    def is_completed(self) -> bool:
        """Whether it has ended, well or not."""

    def wait(self) -> bool:
        """Wait until it ends, or, by NCCL, have the device wait. Raises `RuntimeError` where it failed."""


class Way:
    """A transport among some ranks, by their numbers there. Every method raises `RuntimeError` where it fails."""

    def __init__(self, store: Store, transport: Transport, number: int, count: int, *, loopback: bool) -> None:
        self._way = _nccl(store, number, count) if transport == "nccl" else _gloo(store, number, count, loopback)

    def broadcast(self, tensor: Tensor, owner: int) -> Work:
        """Give everyone the owner's tensor, in place."""
        options = _torch.BroadcastOptions()
        options.rootRank = owner
        return cast(Work, self._way.broadcast([tensor], options))

    def sum(self, tensor: Tensor) -> Work:
        """Give everyone the sum, in place."""
        return cast(Work, self._way.allreduce([tensor]))

    def abort(self) -> None:
        """End what is under way, also on the device."""
        self._way.abort()

    def part(self) -> None:
        """Let the connections go, and do not use this any more.

        They go in a thread of their own. gloo first waits for what is under way, which ends when whoever is on
        the other side answers or ends; and that may be the one that hangs, for whom nobody is to wait.
        """
        going = [self._way]
        self._way = None
        threading.Thread(target=going.clear, name="parting", daemon=True).start()


def hosted_store(port: int, listening: int) -> Store:
    """A store of this process, behind a socket that listens already."""
    store = _torch.TCPStore(LOOPBACK, port, None, True, ANSWER, wait_for_workers=False, master_listen_fd=listening)
    return cast(Store, store)


def joined_store(address: str, port: int, *, hosts: bool) -> Store:
    """A store at an address, hosted by this process or by another. Raises `RuntimeError` where none is."""
    return cast(Store, _torch.TCPStore(address, port, None, hosts, ANSWER, wait_for_workers=False))


def under(store: Store, name: str) -> Store:
    """The same store, where every key begins with the name."""
    return cast(Store, _torch.PrefixStore(name, store))


def has_nccl() -> bool:
    """Whether this PyTorch has NCCL; it has none on Windows and without CUDA."""
    return bool(_torch.is_available() and _torch.is_nccl_available())


def _gloo(store: Store, number: int, count: int, loopback: bool) -> Any:
    kind = _torch.ProcessGroupGloo
    options = kind._Options()
    options._timeout = JOINING
    options._devices = [kind.create_device(hostname=LOOPBACK) if loopback else kind.create_default_device()]
    way = kind(store, number, count, options)
    way._set_default_timeout(FOREVER)
    return way


def _nccl(store: Store, number: int, count: int) -> Any:
    options = _torch.ProcessGroupNCCL.Options()
    options._timeout = FOREVER
    return _torch.ProcessGroupNCCL(store, number, count, options)
