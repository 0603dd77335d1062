"""Tensors from one rank to others.

By NCCL they go from card to card, in order with the kernels. By gloo they go through main memory, which works
everywhere. Waiting for gloo is done in small naps: in between, whoever watches the other ranks is asked whether
they are still there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from holo_lite.errors import in_a_line
from holo_lite.model.compute import Arrival, here
from holo_lite.ranks.engine import Store, Transport, Way, Work, under

FIRST_NAP, LONGEST_NAP = 2e-5, 1e-3  # seconds


class Parted(RuntimeError):  # noqa: N818 - the team says what it means
    """A rank has left in the middle of something, or cannot be reached."""


@dataclass(frozen=True)
class Place:
    """Where a rank computes, and how it reaches others. `watch` raises where one of them is not there any more.

    `loopback`: all ranks are on this machine, and nobody else is to reach them.
    """

    store: Store
    rank: int
    device: torch.device
    transport: Transport
    watch: Callable[[], None]
    loopback: bool = False


@dataclass(frozen=True)
class Transfer:
    """A transfer that has begun: of a tensor, by what stands for it in main memory, or by itself."""

    work: Work
    host: Tensor
    tensor: Tensor


class Group:
    """Some ranks. Every one of them makes it under the same name, and calls the same in the same order."""

    def __init__(self, place: Place, name: str, members: Sequence[int]) -> None:
        self._place, self._members, self._sent = place, tuple(members), 0
        self._way = None if len(members) == 1 else self._opened(name)
        self._pending: list[Work] = []

    @property
    def sent(self) -> int:
        """Bytes this rank has given to others so far, each counted once."""
        return self._sent

    def part(self) -> None:
        """Let the connections go.

        gloo does so when what is under way has ended, which it may do only when another rank ends: that is waited
        for elsewhere.
        """
        way, self._way = [self._way], None
        if self._place.transport == "gloo" and not all(work.is_completed() for work in self._pending):
            threading.Thread(target=way.clear, name="parting", daemon=True).start()

    def abort(self) -> None:
        """End what is under way on the device, from another thread: what waits in main memory ends by itself."""
        if self._way is not None and self._place.transport == "nccl":
            self._way.abort()

    def spread(self, pieces: Iterable[tuple[int, Tensor]]) -> None:
        """Each tensor as the rank named with it has it, in place. All tensors are contiguous, and on the device."""
        self.begin_spread(pieces)()

    def begin_spread(self, pieces: Iterable[tuple[int, Tensor]]) -> Arrival:
        """The same, begun: it is done when what is returned has been called. No tensor may change meanwhile."""
        if self._way is None:
            return here
        way = self._way
        begun = [self._begun_spread(way, owner, tensor) for owner, tensor in pieces if tensor.numel()]
        return partial(self._finish, begun)

    def add(self, tensor: Tensor) -> None:
        """The sum of all ranks' tensors, in place."""
        if self._way is None:
            return
        self._sent += tensor.nbytes
        host = self._host(tensor, copied=True)
        self._finish([self._begun(tensor, host, self._way.sum)])

    def _opened(self, name: str) -> Way:
        """What carries tensors among the members. Raises `Parted` where one of them does not come."""
        place, number = self._place, self._members.index(self._place.rank)
        store, count = under(place.store, name), len(self._members)
        try:
            return Way(store, place.transport, number, count, loopback=place.loopback)
        except RuntimeError as error:
            raise Parted(in_a_line(error)) from error

    def _begun_spread(self, way: Way, owner: int, tensor: Tensor) -> Transfer:
        mine = owner == self._place.rank
        self._sent += tensor.nbytes if mine else 0
        host = self._host(tensor, copied=mine)
        return self._begun(tensor, host, way.broadcast, self._members.index(owner))

    def _begun(self, tensor: Tensor, host: Tensor, call: Callable[..., Work], *given: object) -> Transfer:
        work = _parting(call, host, *given)
        self._pending.append(work)
        return Transfer(work, host, tensor)

    def _host(self, tensor: Tensor, *, copied: bool) -> Tensor:
        """The tensor itself, or one in main memory where gloo cannot reach it."""
        if self._place.transport == "nccl" or tensor.device.type == "cpu":
            return tensor
        return tensor.cpu() if copied else torch.empty_like(tensor, device="cpu")

    def _finish(self, transfers: list[Transfer]) -> None:
        """Wait until all are done. They go one by one, so a second call finds none."""
        while transfers:
            transfer = transfers.pop(0)
            self._wait(transfer.work)
            if transfer.host is not transfer.tensor:
                transfer.tensor.copy_(transfer.host)
            self._pending.remove(transfer.work)  # it keeps the tensor's memory

    def _wait(self, work: Work) -> None:
        nap = FIRST_NAP
        while self._place.transport == "gloo" and not work.is_completed():
            self._place.watch()
            time.sleep(nap)
            nap = min(2 * nap, LONGEST_NAP)
        _parting(work.wait)


def _parting(call: Callable[..., Work | bool], *given: object) -> Work:
    """Call a transport. Raises `Parted` where it fails."""
    try:
        return call(*given)  # type: ignore[return-value]
    except RuntimeError as error:
        raise Parted(in_a_line(error)) from error
