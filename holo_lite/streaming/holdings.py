"""All memory that streamed experts take, on the device and on the host.

It is fitted to what a plan says before an expert is lent. What is too much goes first, what is there already stays,
and only what is missing is allocated and read: a smaller plan is a matter of letting go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle

from holo_lite.cancel import Cancel
from holo_lite.config import Expert
from holo_lite.streaming.disk import DiskReader
from holo_lite.streaming.expert_images import BlockId, ExpertImages
from holo_lite.streaming.image import BlockImage, largest
from holo_lite.streaming.lane import Buffer, Lane
from holo_lite.streaming.residency import BlockPlaces, Residency


@dataclass
class ExpertMemory:
    """Slots, ring, resident and cached blocks. After an error its content is intact, and may be fitted again."""

    lane: Lane
    parts: Mapping[Expert, ExpertImages]
    slots: list[Buffer] = field(default_factory=list)
    ring: list[Buffer] = field(default_factory=list)
    resident: dict[BlockId, Buffer] = field(default_factory=dict)
    cached: dict[BlockId, Buffer] = field(default_factory=dict)
    cancel: Cancel = field(default_factory=Cancel)

    def fit(
        self,
        residency: Residency,
        places: Mapping[Expert, BlockPlaces],
        coming: Sequence[Expert],
        *,
        streaming: bool,
    ) -> None:
        """Hold what is wanted for the experts that come, the first of which is in use.

        `streaming`: blocks come through the ring at the same time, so that it is not free for others.

        Raises `PinError`, `CheckpointError`, `Cancelled`, and what the device says when it has no memory left.
        """
        resident = [(expert, block) for expert in coming[:1] for block in places[expert].stay]
        resident += [(expert, block) for expert in coming[1:2] for block in places[expert].early]
        cached = [(expert, block) for expert in coming for block in places[expert].cached]
        self._let_go(residency, set(resident), set(cached))
        self._take(residency)
        disk = DiskReader()
        try:
            self._bring_all(disk, [visit for visit in resident if visit not in self.resident], streaming=streaming)
            for visit in cached:
                if visit not in self.cached:
                    self._keep(disk, visit)
        finally:
            disk.close()

    def bring(self, disk: DiskReader, image: BlockImage) -> Buffer:
        """Bring one image to a buffer of its own on the device, and wait until it is there."""
        host = self.lane.host_buffer(image.nbytes, pinned=False)
        slot = self._begin(disk, image, host)
        self.lane.await_copied(host)
        return slot

    def close(self) -> None:
        """Give all of it back."""
        self._let_go(Residency(slots=0, ring=0), set(), set())

    def _let_go(self, residency: Residency, resident: set[BlockId], cached: set[BlockId]) -> None:
        self.resident = {visit: buffer for visit, buffer in self.resident.items() if visit in resident}
        del self.slots[residency.slots :]
        while len(self.ring) > residency.ring or any(each.pinned and not residency.pinned for each in self.ring):
            self.lane.free_host(self.ring.pop())
        for visit in self.cached.keys() - cached:
            self.lane.free_host(self.cached.pop(visit))

    def _take(self, residency: Residency) -> None:
        size = largest(image for part in self.parts.values() for image in part.images)
        while len(self.slots) < residency.slots:
            self.slots.append(self.lane.device_buffer(size))
        while len(self.ring) < residency.ring:
            self.ring.append(self.lane.host_buffer(size, pinned=residency.pinned))

    def _bring_all(self, disk: DiskReader, visits: Sequence[BlockId], *, streaming: bool) -> None:
        """Bring blocks that stay, each while the one before is copied. All have come when this returns or raises.

        Memory that was used before is what makes it fast: of new memory the system has to clear every page first.
        """
        images = [self._image(visit) for visit in visits]
        if not images:
            return
        hosts = [self.lane.host_buffer(largest(images), pinned=False)] if streaming else self.ring
        try:
            for visit, image, host in zip(visits, images, cycle(hosts), strict=False):
                self.cancel.check()
                self.lane.await_copied(host)
                self.resident[visit] = self._begin(disk, image, host)
        finally:
            for host in hosts:
                self.lane.await_copied(host)

    def _begin(self, disk: DiskReader, image: BlockImage, host: Buffer) -> Buffer:
        """Read an image and begin to copy it. → where it will be"""
        slot = self.lane.device_buffer(image.nbytes)
        disk.read(image, host.data)
        self.lane.copy(host, slot, image.nbytes)
        return slot

    def _keep(self, disk: DiskReader, visit: BlockId) -> None:
        """Read a block that stays in host memory; half-read it does not."""
        self.cancel.check()
        image = self._image(visit)
        buffer = self.lane.host_buffer(image.nbytes, pinned=True)
        try:
            disk.read(image, buffer.data)
        except BaseException:
            self.lane.free_host(buffer)
            raise
        self.cached[visit] = buffer

    def _image(self, visit: BlockId) -> BlockImage:
        expert, block = visit
        return self.parts[expert].images[block]
