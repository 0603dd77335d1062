"""A card's lane: a copy stream next to the computing stream, and events between them.

Nothing ever waits for the whole device. A slot is filled only after the computation that last used it (an event),
computation starts only after the copy that filled its slot (another), and a host buffer is read into again only
after the copy out of it (the same one: here the host waits). `tests/streaming/test_cuda_lane.py` runs all of it in
the orders that a card may choose.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
from typing import Any

import torch

from holo_lite.streaming.lane import Buffer, PinError


class CudaLane:
    """A copy stream next to the computing stream.

    Host memory is registered as pinned in its exact size: PyTorch's own pinned allocator rounds up to a power of
    two and keeps what it once had.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda: Any = torch.cuda
        self._stream = self._cuda.Stream(device)
        self._waits: list[tuple[Any, Any]] = []  # of every wait the event before and the one behind it
        self._last_start: Any = None  # where computation stood as the last block was queued

    def host_buffer(self, nbytes: int, *, pinned: bool) -> Buffer:
        """Memory of exactly this size, on pages of its own. Raises `PinError` if the system refuses to pin it.

        A copy from memory that is not pinned goes through the driver's own buffer, and blocks the thread.
        """
        try:
            data = torch.frombuffer(_pages(nbytes), dtype=torch.uint8)
        except OSError as error:
            raise PinError(str(error)) from error
        if pinned:
            self._check(lambda cudart: cudart.cudaHostRegister(data.data_ptr(), nbytes, 0))
        return Buffer(data, pinned=pinned)

    def _check(self, call: Any) -> None:
        """Make a call of the runtime that may be refused, and take the refusal up.

        It stays behind as CUDA's last error, and the next kernel would be blamed for it: so one is launched here.
        """
        with self._cuda.device(self._device):
            code = int(call(self._cuda.cudart()))
            if code == 0:
                return
            with contextlib.suppress(RuntimeError):
                torch.zeros(1, device=self._device)
        raise PinError(f"CUDA error {code}")

    def device_buffer(self, nbytes: int) -> Buffer:
        """Memory on the card.

        The allocator orders reuse only on the computing stream: memory that it returns here may still be read
        there, so the first copy has to wait for that stream's work so far.
        """
        slot = Buffer(torch.empty(nbytes, dtype=torch.uint8, device=self._device))
        self.release(slot)
        return slot

    def copy(self, host: Buffer, slot: Buffer, nbytes: int) -> None:
        """Queue the copy behind the computation that last used the slot."""
        with self._cuda.stream(self._stream):
            self._stream.wait_event(slot.event)
            slot.data[:nbytes].copy_(host.data[:nbytes], non_blocking=True)
            slot.event = host.event = self._event(self._stream, blocking=True)

    def move(self, slot: Buffer, place: Buffer, nbytes: int) -> None:
        """Queue the copy on the computing stream."""
        with torch.inference_mode(), self._cuda.stream(self._computing):
            place.data[:nbytes].copy_(slot.data[:nbytes], non_blocking=True)

    def await_copied(self, host: Buffer) -> None:
        """Wait for the last copy out of a host buffer, or into a place on the card."""
        if host.event is not None:
            host.event.synchronize()

    def keep_pace(self) -> None:
        """Wait until the block before the last one is done: the card has one more to go on with."""
        last, self._last_start = self._last_start, self._event(self._computing, blocking=True)
        if last is not None:
            last.synchronize()

    def mark(self) -> Any:
        """An event that happens when computation has nothing left to do."""
        return self._event(self._computing, enable_timing=True)

    def await_filled(self, slot: Buffer, since: Any) -> None:
        """Let the computing stream wait for the copy; the host does not wait."""
        self._computing.wait_event(slot.event)
        self._waits.append((since, self.mark()))

    def waited(self) -> float:
        """By the card's clock. Between the events computation had nothing to do but to wait."""
        self._event(self._computing, blocking=True).synchronize()
        milliseconds = sum(before.elapsed_time(after) for before, after in self._waits)
        self._waits.clear()
        return float(milliseconds / 1000)

    def release(self, slot: Buffer) -> None:
        """Record where the computing stream is."""
        slot.event = self._event(self._computing)

    def release_host(self, host: Buffer) -> None:
        """Record where the computing stream is, to be waited for on the host."""
        host.event = self._event(self._computing, blocking=True)

    def drain(self) -> None:
        """Wait for the copy stream."""
        self._stream.synchronize()

    def free_host(self, host: Buffer) -> None:
        """Unpin, after the last copy. What the runtime will not let go of stays pinned until the process ends."""
        if host.pinned:
            self.await_copied(host)
            host.pinned = False
            with contextlib.suppress(PinError):
                self._check(lambda cudart: cudart.cudaHostUnregister(host.data.data_ptr()))

    def _event(self, stream: Any, **options: bool) -> Any:
        """Where a stream is now. With `blocking` the host sleeps while it waits, instead of keeping a core busy."""
        event = self._cuda.Event(**options)
        event.record(stream)
        return event

    @property
    def _computing(self) -> Any:
        """The stream on which the calling thread computes."""
        return self._cuda.current_stream(self._device)


def _pages(nbytes: int) -> mmap.mmap:
    """New memory, in large pages where the system has such: to pin it takes a while for every page.

    A child process gets none of it: what is copied on writing would be another page than the one that is pinned.
    """
    if sys.platform == "win32":
        return mmap.mmap(-1, nbytes)
    pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for advice in ("MADV_HUGEPAGE", "MADV_DONTFORK"):
        if hasattr(mmap, advice):
            with contextlib.suppress(OSError):  # a kernel that was built without
                pages.madvise(getattr(mmap, advice))
    return pages
