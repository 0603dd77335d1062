"""A CPU's lane, and which lane a device has.

On a CPU slots are plain memory and a copy is done when it returns: the only wait is for bytes to arrive.
"""

from __future__ import annotations

import time

import torch

from holo_lite.streaming.cuda_lane import CudaLane
from holo_lite.streaming.lane import Buffer, Lane


class CpuLane:
    """Slots are plain memory: a copy is done when it returns."""

    def __init__(self) -> None:
        self._waited = 0.0

    def host_buffer(self, nbytes: int, *, pinned: bool) -> Buffer:
        """Plain memory; nothing is gained by pinning it."""
        return Buffer(torch.empty(nbytes, dtype=torch.uint8), pinned=pinned)

    def device_buffer(self, nbytes: int) -> Buffer:
        """Plain memory."""
        return Buffer(torch.empty(nbytes, dtype=torch.uint8))

    def copy(self, host: Buffer, slot: Buffer, nbytes: int) -> None:
        """Copy."""
        slot.data[:nbytes].copy_(host.data[:nbytes])

    def move(self, slot: Buffer, place: Buffer, nbytes: int) -> None:
        """Copy."""
        with torch.inference_mode():
            place.data[:nbytes].copy_(slot.data[:nbytes])

    def await_copied(self, host: Buffer) -> None:
        """Nothing to wait for."""

    def keep_pace(self) -> None:
        """Nothing is queued."""

    def mark(self) -> float:
        """The time."""
        return time.perf_counter()

    def await_filled(self, slot: Buffer, since: float) -> None:  # noqa: ARG002 - a slot that has come is filled
        """Count the time until it came."""
        self._waited += time.perf_counter() - since

    def waited(self) -> float:
        """By the clock."""
        found, self._waited = self._waited, 0.0
        return found

    def release(self, slot: Buffer) -> None:
        """Nothing to mark."""

    def release_host(self, host: Buffer) -> None:
        """Nothing to mark."""

    def drain(self) -> None:
        """Nothing to wait for."""

    def free_host(self, host: Buffer) -> None:
        """Python does."""


def lane_for(device: torch.device) -> Lane:
    """The lane of a device."""
    return CudaLane(device) if device.type == "cuda" else CpuLane()
