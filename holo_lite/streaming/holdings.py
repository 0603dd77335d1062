"""All memory that streamed experts take, on the device and on the host.

It is fitted to what a plan says before an expert is lent. What is too much goes first, what is there already stays,
and only what is missing is allocated: a smaller plan is a matter of letting go. Nothing is read for it. A block
that stays on the device has its memory from then on, before the allocator is asked for anything of a layer's, and
its bytes when the expert's first forward needs them. One that stays in host memory is pinned as it comes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from holo_lite.config import Expert
from holo_lite.streaming.disk import DiskReader
from holo_lite.streaming.expert_images import BlockId, ExpertImages
from holo_lite.streaming.image import BlockImage, largest
from holo_lite.streaming.lane import Buffer, Lane
from holo_lite.streaming.residency import BlockPlaces, Residency


@dataclass
class ExpertMemory:
    """Slots, ring, resident and cached blocks. After an error its content is intact, and may be fitted again.

    resident: where blocks stay on the device; filled: those of them whose bytes have come, or are being copied;
    cached: blocks in host memory, as far as they have come.
    """

    lane: Lane
    parts: Mapping[Expert, ExpertImages]
    slots: list[Buffer] = field(default_factory=list)
    ring: list[Buffer] = field(default_factory=list)
    resident: dict[BlockId, Buffer] = field(default_factory=dict)
    filled: set[BlockId] = field(default_factory=set)
    cached: dict[BlockId, Buffer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._to_cache: set[BlockId] = set()
        self._caching = threading.Lock()

    def fit(self, residency: Residency, places: Mapping[Expert, BlockPlaces], coming: Sequence[Expert]) -> None:
        """Hold what is wanted for the experts that come, the first of which is in use.

        Raises `PinError`, and what the device says when it has no memory left.
        """
        resident = [(expert, block) for expert in coming[:1] for block in places[expert].stay]
        resident += [(expert, block) for expert in coming[1:2] for block in places[expert].early]
        cached = {(expert, block) for expert in coming for block in places[expert].cached}
        self._let_go(residency, set(resident), cached)
        self._take(residency, resident)

    def bring(self, disk: DiskReader, image: BlockImage) -> Buffer:
        """Bring one image to a buffer of its own on the device, and wait until it is there."""
        host = self.lane.host_buffer(image.nbytes, pinned=False)
        slot = self.lane.device_buffer(image.nbytes)
        disk.bring(image, host)
        self.lane.copy(host, slot, image.nbytes)
        self.lane.await_copied(host)
        return slot

    def on_host(self, visit: BlockId, read: Callable[[Buffer], None]) -> Buffer | None:
        """Where a block stays on the host, read now if it was not before; half-read it does not stay."""
        with self._caching:
            if visit not in self._to_cache or visit in self.cached:
                return self.cached.get(visit)
        buffer = self.lane.host_buffer(self.image(visit).nbytes, pinned=True)
        try:
            read(buffer)
        except BaseException:
            self.lane.free_host(buffer)
            raise
        with self._caching:
            self.cached[visit] = buffer
        return buffer

    def on_device(self, visit: BlockId) -> Buffer | None:
        """Where a block stays on the device."""
        return self.resident.get(visit)

    def came(self, visit: BlockId) -> None:
        """Note that a block is, or soon will be, where it stays on the device."""
        self.filled.add(visit)

    def image(self, visit: BlockId) -> BlockImage:
        """A block's image."""
        expert, block = visit
        return self.parts[expert].images[block]

    def close(self) -> None:
        """Give all of it back."""
        self._let_go(Residency(slots=0, ring=0), set(), set())

    def _let_go(self, residency: Residency, resident: set[BlockId], cached: set[BlockId]) -> None:
        self.filled &= resident
        self.resident = {visit: buffer for visit, buffer in self.resident.items() if visit in resident}
        del self.slots[residency.slots :]
        while len(self.ring) > residency.ring or any(each.pinned and not residency.pinned for each in self.ring):
            self.lane.free_host(self.ring.pop())
        with self._caching:
            self._to_cache = cached
            gone = [self.cached.pop(visit) for visit in self.cached.keys() - cached]
        for buffer in gone:
            self.lane.free_host(buffer)

    def _take(self, residency: Residency, resident: Sequence[BlockId]) -> None:
        size = largest(image for part in self.parts.values() for image in part.images)
        while len(self.slots) < residency.slots:
            self.slots.append(self.lane.device_buffer(size))
        while len(self.ring) < residency.ring:
            self.ring.append(self.lane.host_buffer(size, pinned=residency.pinned))
        for visit in resident:
            if visit not in self.resident:
                self.resident[visit] = self.lane.device_buffer(self.image(visit).nbytes)
