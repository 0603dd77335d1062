"""The way of bytes from a host buffer to a slot on the device, and who waits for whom.

A slot is filled only after the computation that last used it, computation starts only after the copy that filled
its slot, and a host buffer is read into again only after the copy out of it. How that is kept is the device's
business: `lanes` has a CPU's way, `cuda_lane` a card's.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


class PinError(Exception):
    """The system pins no more host memory. Never reaches a person: the run continues with less of it."""


@dataclass
class Buffer:
    """Bytes on the host or on the device, and the last event they took part in.

    Somebody may still be looking at what was read into a host buffer, until what is in `seen` is done.
    """

    data: Tensor
    event: Any = None
    pinned: bool = False
    seen: tuple[Future[None], ...] = ()


class Lane(Protocol):
    """The way from host to device."""

    def host_buffer(self, nbytes: int, *, pinned: bool) -> Buffer:
        """A buffer to read into. Raises `PinError` if it cannot be pinned."""

    def device_buffer(self, nbytes: int) -> Buffer:
        """A slot to compute from."""

    def copy(self, host: Buffer, slot: Buffer, nbytes: int) -> None:
        """Begin to copy once the slot is free; mark both."""

    def move(self, slot: Buffer, place: Buffer, nbytes: int) -> None:
        """Copy on the device, in the order of computation."""

    def await_copied(self, host: Buffer) -> None:
        """Wait, on the host, until the last copy out of a host buffer, or into a place on the device, is done."""

    def keep_pace(self) -> None:
        """Wait, on the host, until no more than one block is queued behind the one that is computed.

        Called before every block. Whoever cancels waits for what is queued.
        """

    def mark(self) -> Any:
        """A mark in the computation, before it is made to wait for a slot."""

    def await_filled(self, slot: Buffer, since: Any) -> None:
        """Make the computation that follows wait for the copy into a slot; the time since the mark was waiting."""

    def waited(self) -> float:
        """Seconds that computation has waited for copies since this was last asked.

        Waits, on the host, until the computation that was queued so far is done; copies continue.
        """

    def release(self, slot: Buffer) -> None:
        """Mark the end of the computation that used a slot."""

    def release_host(self, host: Buffer) -> None:
        """Mark the end of the computation that has itself copied out of a host buffer."""

    def drain(self) -> None:
        """Wait for all copies that were begun."""

    def free_host(self, host: Buffer) -> None:
        """Give a host buffer back, once the last copy out of it, or what was marked last, is done."""
