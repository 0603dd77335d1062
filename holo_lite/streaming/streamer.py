"""Blocks on their way, ahead of their use.

    disk ──reader──▶ ring of host buffers ──copier──▶ slots on the device ──▶ take … give_back

The order in which blocks will be needed is known for the whole run, the second expert included, so no block is
requested: two threads follow that itinerary as fast as free buffers and slots let them, and the computing thread
takes what comes. A block that stays (`homes`) comes once: to a buffer of its own, in place of one of the ring or
of a slot. Less may be wanted in the end than was announced: then blocks are not copied, and those that were are
dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import torch

from holo_lite.cancel import Cancel, Cancelled
from holo_lite.streaming.channel import Channel, ClosedError
from holo_lite.streaming.disk import DiskReader, Witness, nobody
from holo_lite.streaming.homes import Ahead, Homes, NoHomes
from holo_lite.streaming.image import BlockImage
from holo_lite.streaming.lane import Buffer, Lane

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Arrival(Generic[Key]):
    """A block that has come, or is about to: its key, its image, the slot it is in, or the place where it stays."""

    key: Key
    image: BlockImage
    slot: Buffer
    stays: bool = False


class _Read(NamedTuple, Generic[Key]):
    """A block on the host: in a buffer of the ring, or in one of its own, where it is kept.

    `ahead`: nobody takes it now. Without a buffer it came ahead of its turn.
    """

    key: Key
    host: Buffer | None
    kept: bool = False
    ahead: bool = False


class Streamer(Generic[Key]):
    """Brings the blocks of an itinerary, in its order.

    `images` are all blocks by key, `slots` and `ring` the device and host buffers that all share, `homes` the
    places of blocks that stay; `admits` says whether a block that was read is wanted still; `witness` is shown what
    is read. `close` it. Errors of its threads are raised by `take`, as is `Cancelled` once somebody has cancelled,
    also while `take` waits for a slow disk.
    """

    def __init__(
        self,
        itinerary: Iterable[Key | Ahead[Key]],
        images: Mapping[Key, BlockImage],
        lane: Lane,
        *,
        slots: list[Buffer],
        ring: list[Buffer],
        homes: Homes[Key] | None = None,
        admits: Callable[[Key], bool] = lambda _: True,
        cancel: Cancel | None = None,
        witness: Witness = nobody,
    ) -> None:
        self._cancel, self._witness = cancel or Cancel(), witness
        self._itinerary, self._images, self._lane = itinerary, images, lane
        self._homes, self._admits = homes or NoHomes(), admits
        self._free_host: Channel[Buffer] = Channel()
        self._read: Channel[_Read[Key] | None] = Channel()  # None: the itinerary has ended
        self._free_slots: Channel[Buffer] = Channel()
        self._arrived: Channel[Arrival[Key] | BaseException] = Channel()
        for buffer in ring:
            self._free_host.put(buffer)
        for slot in slots:
            self._free_slots.put(slot)
        self._taken: list[Buffer] = []  # slots that are computed from
        self._threads = [self._start(self._read_all), self._start(self._copy_all)]
        self._cancel.subscribe(self._wake)

    def take(self, key: Key) -> Arrival[Key]:
        """The next block, which must be `key`. Computation that follows waits for its bytes."""
        self._cancel.check()
        mark = self._lane.mark()
        arrival = self._next()
        assert arrival.key == key, f"{arrival.key} came, {key} was wanted"
        self._lane.await_filled(arrival.slot, mark)
        if not arrival.stays:
            self._taken.append(arrival.slot)
        return arrival

    def give_back(self, arrival: Arrival[Key]) -> None:
        """The computation that used a block has been queued: its slot may be filled again after it."""
        self._taken = [slot for slot in self._taken if slot is not arrival.slot]
        self._lane.release(arrival.slot)
        self._free_slots.put(arrival.slot)

    def drop(self, count: int) -> None:
        """Drop the next `count` blocks, which are not needed. Their copies are queued when this returns."""
        for _ in range(count):
            arrival = self._next()
            if arrival.stays:
                self._lane.await_copied(arrival.slot)  # before its memory may go
            else:
                self._free_slots.put(arrival.slot)  # nothing computes from it: copies follow each other

    def close(self) -> None:
        """Stop both threads and wait for copies under way; buffers may then be used by others.

        Of a forward that was cut off, computation may still be under way: its slot is filled again only after it.
        """
        self._cancel.unsubscribe(self._wake)
        channels = self._free_host, self._read, self._free_slots, self._arrived
        for channel in channels:
            channel.close()
        for thread in self._threads:
            thread.join()
        for slot in self._taken:
            self._lane.release(slot)
        self._lane.drain()
        for channel in channels:  # an error that nobody took holds the thread's frames, and these hold all of this
            channel.clear()

    def _next(self) -> Arrival[Key]:
        arrival = self._arrived.get()
        if isinstance(arrival, BaseException):
            raise arrival
        return arrival

    def _start(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._guard, args=(work,), daemon=True)
        thread.start()
        return thread

    def _guard(self, work: Callable[[], None]) -> None:
        """Run a thread's work; what goes wrong is raised where blocks are taken."""
        try:
            with torch.inference_mode():  # buffers made in that mode may be written in no other
                work()
        except ClosedError:
            return
        except Exception as error:  # noqa: BLE001 - handed on whole to the thread that takes
            self._hand_on(error)

    def _wake(self) -> None:
        """Somebody has cancelled, and `take` may be waiting."""
        self._hand_on(Cancelled())

    def _hand_on(self, error: BaseException) -> None:
        try:
            self._arrived.put(error)
        except ClosedError:
            return

    def _read_all(self) -> None:
        disk, ahead = DiskReader(self._witness), set[Key]()
        try:
            for visit in self._itinerary:
                if isinstance(visit, Ahead):
                    ahead.add(visit.key)
                    self._read.put(_Read(visit.key, self._read_one(disk, visit.key), ahead=True))
                elif visit in ahead:
                    ahead.remove(visit)
                    self._read.put(_Read(visit, None))
                else:
                    kept = self._homes.on_host(visit, partial(disk.bring, self._images[visit]))
                    self._read.put(_Read(visit, kept or self._read_one(disk, visit), kept is not None))
            self._read.put(None)
        finally:
            disk.close()

    def _read_one(self, disk: DiskReader, key: Key) -> Buffer:
        buffer = self._free_host.get()
        self._lane.await_copied(buffer)
        disk.bring(self._images[key], buffer)
        return buffer

    def _copy_all(self) -> None:
        while True:
            item = self._read.get()
            assert item is not None, "a block was taken beyond the itinerary's end"
            place, stays = self._place(item.key)
            if item.ahead or self._admits(item.key):
                self._bring(item, Arrival(item.key, self._images[item.key], place, stays))
            elif not stays:
                self._free_slots.put(place)
            if item.host is not None and not item.kept:
                self._free_host.put(item.host)

    def _place(self, key: Key) -> tuple[Buffer, bool]:
        """Where a block is copied to: the place where it stays, which it may get while it waits for a slot."""
        if (home := self._homes.on_device(key)) is not None:
            return home, True
        slot = self._free_slots.get()
        if (home := self._homes.on_device(key)) is None:
            return slot, False
        self._free_slots.put(slot)
        return home, True

    def _bring(self, item: _Read[Key], arrival: Arrival[Key]) -> None:
        if item.host is not None:
            self._lane.copy(item.host, arrival.slot, arrival.image.nbytes)
            if arrival.stays:
                self._homes.came(arrival.key)
        if not item.ahead:
            self._arrived.put(arrival)
