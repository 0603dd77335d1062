"""Both experts, streamed: a few slots and some resident blocks on the device, the rest on its way.

The itinerary covers the whole run, so before the switch the second expert's first blocks are already coming. Blocks
that stay are spread evenly over the depth, so that those which stream have time to.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from holo_lite.cancel import Cancel
from holo_lite.config import Expert
from holo_lite.lora.adaptation import Adaptation
from holo_lite.model.compute import PLAIN, Compute
from holo_lite.model.dit import WanDiT
from holo_lite.model.load import own_names, skeleton
from holo_lite.streaming.disk import DiskReader, Witness, nobody
from holo_lite.streaming.expert_images import BLOCKS, BlockId, ExpertImages
from holo_lite.streaming.holdings import ExpertMemory
from holo_lite.streaming.hooks import StayHook, StreamHook, hook, install, unhook
from holo_lite.streaming.host_adapters import HostAdapters
from holo_lite.streaming.itinerary import Itinerary
from holo_lite.streaming.lane import Lane
from holo_lite.streaming.lanes import lane_for
from holo_lite.streaming.residency import BlockPlaces, Residency
from holo_lite.streaming.streamer import Streamer
from holo_lite.weights.files import open_weights

logger = logging.getLogger(__name__)


def open_images(path: Path) -> ExpertImages:
    """Open an expert as streaming sees it. Raises `CheckpointError`."""
    file = open_weights(path)
    return ExpertImages.of(file, own_names(file), skeleton(file).config.num_layers)


@dataclass(frozen=True)
class ExpertSetup:
    """Both experts' files, and how they are computed."""

    paths: Mapping[Expert, Path]
    dtype: torch.dtype
    device: torch.device
    compute: Compute = PLAIN
    adapters: Mapping[Expert, Adaptation] = field(default_factory=dict)


@dataclass
class StreamedExperts:
    """Lends experts whose blocks stream; a context manager, which holds the memory.

    `forwards` counts the forwards each expert will run at most, in the order of use. Nothing is allocated before an
    expert is lent; after a `lend` that failed, `change` tells it to continue with less. Once somebody has cancelled
    by the token `cancel`, no block's forward begins: it raises `Cancelled`.
    """

    setup: ExpertSetup
    forwards: Mapping[Expert, int]
    residency: Residency = field(default_factory=Residency)
    cancel: Cancel = field(default_factory=Cancel)
    witness: Witness = nobody  # is shown what is read

    def __post_init__(self) -> None:
        self._lane: Lane = lane_for(self.setup.device)
        self._parts = {expert: open_images(self.setup.paths[expert]) for expert in self.forwards}
        self._holdings = ExpertMemory(self._lane, self._parts)
        self._places: dict[Expert, BlockPlaces] = {}
        self._model: tuple[Expert, WanDiT] | None = None
        self._hosted: HostAdapters | None = None
        self._streamer: Streamer[BlockId] | None = None
        self._way: Itinerary | None = None
        self._to_come: set[BlockId] = set()  # blocks that the streamer brings to where they stay
        self._choose()

    def change(self, forwards: Mapping[Expert, int], residency: Residency) -> None:
        """Go on with other counts, while no expert is lent. What both have in common is not read again."""
        self._stop()
        self.forwards, self.residency = forwards, residency
        self._choose()

    def skip(self, expert: Expert, forwards: int) -> None:
        """Note that the expert in use will be asked for `count` forwards fewer."""
        assert self._way is not None, "an expert is lent"
        self._way.cut(expert, forwards)

    def waited(self) -> float:
        """Seconds computation has waited for weights since this was last asked; waits until it is done so far."""
        return self._lane.waited()

    @contextmanager
    def lend(self, expert: Expert) -> Iterator[WanDiT]:
        """Give an expert, ready to run its forwards, for as long as the context lasts.

        Raises `PinError`, `CheckpointError`, and what the device says when it has no memory left.
        """
        model = self._ready(expert)
        self.cancel.check()  # nothing more is read then
        streamer = self._streamer = self._streamer or self._start(expert)
        try:
            self._attach(model, expert, streamer)
            yield model
        except BaseException:
            self._stop()
            raise
        finally:
            for block in model.blocks:  # which leaves of them what they were: names and shapes
                unhook(block)
        if expert == list(self.forwards)[-1]:
            self._stop()
        elif self._way is not None:
            streamer.drop(self._way.surplus(expert))  # before the host memory that they come from may go

    def close(self) -> None:
        """Give all memory back."""
        self._stop()
        self._forget()
        self._holdings.close()

    def __enter__(self) -> StreamedExperts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _choose(self) -> None:
        totals = {expert: len(self._parts[expert].images) for expert in self.forwards}
        self._places = {
            expert: BlockPlaces.chosen(total, self.residency, self._places.get(expert))
            for expert, total in totals.items()
        }

    def _ready(self, expert: Expert) -> WanDiT:
        """An expert with everything but its blocks in place; the last one's memory goes first."""
        if self._model is None or self._model[0] != expert:
            logger.debug("%s: blocks %s stay", expert, list(self._places[expert].stay))
            self._forget()
        self._holdings.fit(self.residency, self._places, self._coming(expert))
        if self._model is None:
            self._model = expert, self._build(expert)
        return self._model[1]

    def _forget(self) -> None:
        """Let go of the expert that was lent last, and of its adapters."""
        self._model = None
        if self._hosted is not None:
            self._hosted.close()
            self._hosted = None

    def _build(self, expert: Expert) -> WanDiT:
        """An expert with everything but its blocks in place."""
        part = self._parts[expert]
        model, disk = skeleton(part.file, self.setup.compute).eval(), DiskReader(self.witness)
        try:
            rest = self._holdings.bring(disk, part.rest)
        finally:
            disk.close()
        if expert in self.setup.adapters:
            adapters, pinned = self.setup.adapters[expert], self.residency.pinned
            self._hosted = HostAdapters.load(adapters, self._lane, self.setup.dtype, pinned=pinned)
            self._hosted.hang(model)
        install(model, part.rest.tensors(rest.data), self.setup.dtype, self._changes(""))
        return model

    def _changes(self, prefix: str) -> Mapping[str, torch.Tensor]:
        """What adapters add to tensors whose names begin so, by the rest of their names."""
        return self._hosted.changes_in(prefix) if self._hosted is not None else {}

    def _coming(self, first: Expert) -> Sequence[Expert]:
        experts = list(self.forwards)
        return experts[experts.index(first) :]

    def _itinerary(self, first: Expert) -> Itinerary:
        """What will be wanted: of what stays, that which is not there yet."""
        coming, here = self._coming(first), self._holdings.filled
        missing = {e: [i for i in range(len(self._parts[e].images)) if (e, i) not in here] for e in coming}
        ahead = [(e, i) for e in coming[1:2] for i in self._places[e].early if (e, i) not in here]
        later = {e: self._places[e].streamed for e in coming}
        return Itinerary(missing, later, self.forwards, ahead)

    def _start(self, expert: Expert) -> Streamer[BlockId]:
        images = {(e, i): image for e, part in self._parts.items() for i, image in enumerate(part.images)}
        held = self._holdings
        stay = {(e, i) for e in self._coming(expert) for i in self._places[e].stay}
        self._to_come = stay - held.filled
        way = self._way = self._itinerary(expert)
        return Streamer(
            way,
            images,
            self._lane,
            slots=held.slots,
            ring=held.ring,
            homes=held,
            admits=way.admits,
            cancel=self.cancel,
            witness=self.witness,
        )

    def _stop(self) -> None:
        if self._streamer is not None:
            self._streamer.close()
            self._streamer = None

    def _attach(self, model: WanDiT, expert: Expert, streamer: Streamer[BlockId]) -> None:
        """Put a hook on every block, and in place those that stay and have come before."""
        for index in self._places[expert].streamed:
            changes = self._changes(f"{BLOCKS}.{index}.")
            hook(model.blocks[index], StreamHook(streamer, (expert, index), self.setup.dtype, changes, self._gate))
        for index in self._places[expert].stay:
            visit, changes = (expert, index), self._changes(f"{BLOCKS}.{index}.")
            stay = StayHook(partial(self._settled, streamer, visit), self.setup.dtype, changes, self._gate)
            hook(model.blocks[index], stay)
            if visit not in self._to_come:
                stay.put(model.blocks[index])

    def _settled(self, streamer: Streamer[BlockId], visit: BlockId) -> Mapping[str, torch.Tensor]:
        """The tensors of a block that stays, where it stays, taken from the streamer if it has not come before.

        One that came before the place was free is in a slot, and moves.
        """
        place, image = self._holdings.resident[visit], self._holdings.image(visit)
        if visit in self._to_come:
            arrival = streamer.take(visit)
            if not arrival.stays:
                self._lane.move(arrival.slot, place, image.nbytes)
                streamer.give_back(arrival)
                self._holdings.came(visit)
            self._to_come.remove(visit)
        return image.tensors(place.data)

    def _gate(self) -> None:
        """What comes before every block. Raises `Cancelled`."""
        self._lane.keep_pace()
        self.cancel.check()
