"""Both experts, streamed: a few slots and some resident blocks on the device, the rest on its way.

The itinerary covers the whole run, so before the switch the second expert's first blocks are already coming. Blocks
that stay are spread evenly over the depth, so that those which stream have time to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate.hooks import add_hook_to_module, remove_hook_from_module

from holo_lite.model.dit import WanDiT
from holo_lite.model.load import own_names, skeleton
from holo_lite.plan.spread import evenly
from holo_lite.schedule import Expert
from holo_lite.streaming.disk import DiskReader
from holo_lite.streaming.hooks import StreamHook, install
from holo_lite.streaming.image import BlockImage, largest, network_images
from holo_lite.streaming.lanes import Buffer, Lane, lane_for
from holo_lite.streaming.streamer import Streamer
from holo_lite.weights.files import open_weights
from holo_lite.weights.weight_file import WeightFile

BLOCKS = "blocks"
Visit = tuple[Expert, int]


@dataclass(frozen=True)
class Residency:
    """What is kept where. Counts of blocks, of slots on the device, and of buffers on the host."""

    resident: int = 0  # blocks of the expert in use that stay on the device
    resident_other: int = 0  # blocks of the one that comes next
    slots: int = 2
    ring: int = 2
    cached: int = 0  # blocks of each expert that stay in pinned host memory


@dataclass(frozen=True)
class Part:
    """An expert's file, and its images: those of its blocks, and that of the rest."""

    file: WeightFile
    images: tuple[BlockImage, ...]
    rest: BlockImage

    @classmethod
    def open(cls, path: Path) -> Part:
        """Open an expert. Raises `CheckpointError`."""
        file = open_weights(path)
        renames, count = own_names(file), skeleton(file).config.num_layers
        images = network_images(file, renames, BLOCKS, count)
        return cls(file, images.blocks, images.rest)


@dataclass
class StreamedExperts:
    """Lends experts whose blocks stream; a context manager, which holds the memory.

    `forwards` counts the forwards each expert will run, in the order of use.
    """

    paths: Mapping[Expert, Path]
    forwards: Mapping[Expert, int]
    dtype: torch.dtype
    device: torch.device
    residency: Residency = field(default_factory=Residency)
    waited: float = 0.0  # seconds computation has waited for weights, on the host

    def __post_init__(self) -> None:
        self._lane: Lane = lane_for(self.device)
        self._parts = {expert: Part.open(self.paths[expert]) for expert in self.forwards}
        self._held: dict[Visit, Buffer] = {}
        self._cached: dict[Visit, Buffer] = {}
        self._slots: list[Buffer] = []
        self._ring: list[Buffer] = []
        self._streamer: Streamer[Visit] | None = None

    def _allocate(self) -> None:
        """Slots, ring and cache, once for the whole run."""
        size = largest(image for part in self._parts.values() for image in part.images)
        for _ in range(self.residency.slots):
            self._slots.append(self._lane.device_buffer(size))
        for _ in range(self.residency.ring):
            self._ring.append(self._lane.host_buffer(size))
        self._fill_cache()

    @contextmanager
    def lend(self, expert: Expert) -> Iterator[WanDiT]:
        """Give an expert, ready to run its forwards, for as long as the context lasts."""
        part = self._parts[expert]
        self._settle(expert)
        model = self._build(part)
        if self._streamer is None:
            self._streamer = self._start(expert)
        try:
            self._attach(model, expert, self._streamer)
            yield model
        except BaseException:
            self._stop()
            raise
        finally:
            remove_hook_from_module(model, recurse=True)
        if expert == list(self.forwards)[-1]:
            self._stop()

    def close(self) -> None:
        """Give all memory back."""
        self._stop()
        for buffer in (*self._ring, *self._cached.values()):
            self._lane.free_host(buffer)
        self._ring, self._slots = [], []
        self._cached, self._held = {}, {}

    def __enter__(self) -> StreamedExperts:
        try:
            self._allocate()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _build(self, part: Part) -> WanDiT:
        """An expert with everything but its blocks in place."""
        model, disk = skeleton(part.file).eval(), DiskReader()
        rest = self._to_device(disk, part.rest)
        disk.close()
        install(model, part.rest.tensors(rest.data), self.dtype)
        return model

    def _streamed(self, expert: Expert) -> list[int]:
        """Blocks of an expert that do not stay while it is in use."""
        count = len(self._parts[expert].images)
        stay = set(evenly(min(self.residency.resident, count), count))
        return [index for index in range(count) if index not in stay]

    def _itinerary(self, first: Expert) -> Iterator[Visit]:
        experts = list(self.forwards)
        for expert in experts[experts.index(first) :]:
            blocks = self._streamed(expert)
            for _ in range(self.forwards[expert]):
                yield from ((expert, index) for index in blocks)

    def _start(self, expert: Expert) -> Streamer[Visit]:
        images = {(e, i): image for e, part in self._parts.items() for i, image in enumerate(part.images)}
        itinerary = self._itinerary(expert)
        return Streamer(itinerary, images, self._lane, slots=self._slots, ring=self._ring, cached=self._cached)

    def _stop(self) -> None:
        if self._streamer is not None:
            self._streamer.close()
            self.waited += self._streamer.waited
            self._streamer = None

    def _attach(self, model: WanDiT, expert: Expert, streamer: Streamer[Visit]) -> None:
        streamed = set(self._streamed(expert))
        for index, block in enumerate(model.blocks):
            if index in streamed:
                add_hook_to_module(block, StreamHook(streamer, (expert, index), self.dtype))
            else:
                image = self._parts[expert].images[index]
                install(block, image.tensors(self._held[expert, index].data), self.dtype)

    def _settle(self, expert: Expert) -> None:
        """Hold the resident blocks of the expert in use, then those of the next; let go of the last one's."""
        experts = list(self.forwards)
        coming = experts[experts.index(expert) :]
        self._held = {visit: buffer for visit, buffer in self._held.items() if visit[0] in coming}
        for each, count in zip(coming, (self.residency.resident, self.residency.resident_other), strict=False):
            total = len(self._parts[each].images)
            self._hold(each, evenly(min(count, total), total))

    def _hold(self, expert: Expert, blocks: tuple[int, ...]) -> None:
        disk, images = DiskReader(), self._parts[expert].images
        for index in blocks:
            if (expert, index) not in self._held:
                self._held[expert, index] = self._to_device(disk, images[index])
        disk.close()

    def _to_device(self, disk: DiskReader, image: BlockImage) -> Buffer:
        """Bring one image to a buffer of its own. The ring is not in use by others while this runs."""
        host, slot = Buffer(torch.empty(image.nbytes, dtype=torch.uint8)), self._lane.device_buffer(image.nbytes)
        disk.read(image, host.data)
        self._lane.copy(host, slot, image.nbytes)
        self._lane.await_copied(host)
        return slot

    def _fill_cache(self) -> None:
        """Read the blocks that stay in host memory."""
        disk = DiskReader()
        for expert, part in self._parts.items():
            streamed = self._streamed(expert)
            for place in evenly(min(self.residency.cached, len(streamed)), len(streamed)):
                index = streamed[place]
                buffer = self._lane.host_buffer(part.images[index].nbytes)
                self._cached[expert, index] = buffer
                disk.read(part.images[index], buffer.data)
        disk.close()
