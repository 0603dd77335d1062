"""How bytes get from a host buffer to a device slot, and who waits for whom.

On a card the copy runs on a stream of its own. Nothing ever waits for the whole device: a slot is filled only after
the computation that last used it (an event), computation starts only after the copy that filled its slot
(another), and a host buffer is read into again only after the copy out of it (a third, the only one the host waits
for). On a CPU all of it is a plain copy, and there is nothing to wait for.
"""

from __future__ import annotations

import contextlib
import mmap
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from holo_lite.errors import RoomError
from holo_lite.units import bytes_text


@dataclass
class Buffer:
    """Bytes on the host or on the device, and the last event they took part in."""

    data: Tensor
    event: Any = None


class Lane(Protocol):
    """The way from host to device."""

    def host_buffer(self, nbytes: int) -> Buffer:
        """A buffer to read into."""

    def device_buffer(self, nbytes: int) -> Buffer:
        """A slot to compute from."""

    def copy(self, host: Buffer, slot: Buffer, nbytes: int) -> None:
        """Begin to copy once the slot is free; mark both."""

    def await_copied(self, host: Buffer) -> None:
        """Wait, on the host, until a host buffer may be written again."""

    def await_filled(self, slot: Buffer) -> None:
        """Make the computation that follows wait for the copy into a slot."""

    def release(self, slot: Buffer) -> None:
        """Mark the end of the computation that used a slot."""

    def drain(self) -> None:
        """Wait for all copies that were begun."""

    def free_host(self, host: Buffer) -> None:
        """Give a host buffer back."""


class CpuLane:
    """Slots are plain memory: a copy is done when it returns."""

    def host_buffer(self, nbytes: int) -> Buffer:
        """Plain memory."""
        return Buffer(torch.empty(nbytes, dtype=torch.uint8))

    def device_buffer(self, nbytes: int) -> Buffer:
        """Plain memory."""
        return Buffer(torch.empty(nbytes, dtype=torch.uint8))

    def copy(self, host: Buffer, slot: Buffer, nbytes: int) -> None:
        """Copy."""
        slot.data[:nbytes].copy_(host.data[:nbytes])

    def await_copied(self, host: Buffer) -> None:
        """Nothing to wait for."""

    def await_filled(self, slot: Buffer) -> None:
        """Nothing to wait for."""

    def release(self, slot: Buffer) -> None:
        """Nothing to mark."""

    def drain(self) -> None:
        """Nothing to wait for."""

    def free_host(self, host: Buffer) -> None:
        """Python does."""


class CudaLane:
    """A copy stream beside the stream that computes.

    Host memory is registered as pinned in its exact size: PyTorch's own pinned allocator rounds up to a power of
    two and keeps what it once had.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda: Any = torch.cuda
        self._stream = self._cuda.Stream(device)

    def host_buffer(self, nbytes: int) -> Buffer:
        """Pinned memory of exactly this size. Raises `RoomError` if the system refuses it."""
        data = torch.frombuffer(mmap.mmap(-1, nbytes), dtype=torch.uint8)  # pages of its own, shared with nobody
        with self._cuda.device(self._device):
            self._pin(data, nbytes)
        return Buffer(data)

    def _pin(self, data: Tensor, nbytes: int) -> None:
        if int(self._cuda.cudart().cudaHostRegister(data.data_ptr(), nbytes, 0)) == 0:
            return
        with contextlib.suppress(RuntimeError):  # the refusal stays behind as CUDA's last error: take it up here
            torch.zeros(1, device=self._device)
        size = bytes_text(nbytes)
        raise RoomError(f"the system pins no {size} more; give a profile with less pinned memory")

    def device_buffer(self, nbytes: int) -> Buffer:
        """Memory on the card.

        The allocator orders reuse on the computing stream alone: what it hands out here may still be read there, so
        the first copy has to wait for that stream as it is now.
        """
        data = torch.empty(nbytes, dtype=torch.uint8, device=self._device)
        return Buffer(data, self._cuda.current_stream(self._device).record_event())

    def copy(self, host: Buffer, slot: Buffer, nbytes: int) -> None:
        """Queue the copy behind the computation that last used the slot."""
        with torch.cuda.stream(self._stream):
            if slot.event is not None:
                self._stream.wait_event(slot.event)
            slot.data[:nbytes].copy_(host.data[:nbytes], non_blocking=True)
            slot.event = host.event = self._stream.record_event()

    def await_copied(self, host: Buffer) -> None:
        """Wait for the last copy out of a buffer."""
        if host.event is not None:
            host.event.synchronize()

    def await_filled(self, slot: Buffer) -> None:
        """Let the current stream wait for the copy; the host goes on."""
        self._cuda.current_stream(self._device).wait_event(slot.event)

    def release(self, slot: Buffer) -> None:
        """Record where the current stream is."""
        slot.event = self._cuda.current_stream(self._device).record_event()

    def drain(self) -> None:
        """Wait for the copy stream."""
        self._stream.synchronize()

    def free_host(self, host: Buffer) -> None:
        """Unpin."""
        self._cuda.cudart().cudaHostUnregister(host.data.data_ptr())


def lane_for(device: torch.device) -> Lane:
    """The lane of a device."""
    return CudaLane(device) if device.type == "cuda" else CpuLane()
