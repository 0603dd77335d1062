"""The search for the best way to run a clip within a budget.

It goes by what costs most time. Chunks are as large as fit, for the matrix library's sake, and where it is known
how many multiprocessors the card has, they are whole waves of these (`holo_lite.plan.waves`). Then both guidance
branches share a visit of every block (`joint`) where that reads fewer bytes a step than giving the second
residual stream's room to resident blocks would: usually it does. What is left becomes resident blocks, first of
the expert in use, then of the one that comes next. Blocks become resident only once chunks are at their
largest; what smaller chunks leave over is less than a block of the released model. Where there is room beside the
resident blocks of the expert in use, a shot's inputs are held.

Whole waves replace the profile's largest chunks where they win more than they cost. What they take in addition is
taken from resident blocks, and each of those is a part of all that is read. So the part of the time that they win
must be at least the part of the blocks that they may displace. That depends on clip, model and card, and not on the
budget. A profile with other largest chunks than the shipped ones means them.

More budget thus never gives smaller chunks nor more bytes read a step, and within one way of guidance never
fewer resident blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from holo_lite.config import Expert
from holo_lite.film.tiling import Tile
from holo_lite.model.clip import Chunks
from holo_lite.plan.machine import UNKNOWN, Machine
from holo_lite.plan.phases import Arithmetic, ClipRequest, granted
from holo_lite.plan.profile import Device, Profile
from holo_lite.plan.sizes import ModelSizes, StackSizes
from holo_lite.plan.waves import wave_time, whole_waves
from holo_lite.streaming.residency import evenly

RING = 2  # host buffers that a block passes through on its way
TILES: tuple[Tile, ...] = ((30, 52), (20, 36), (14, 26))  # in latents; the first are the reference's
RAM_SHARE = 2  # at most one part in this many is pinned


@dataclass(frozen=True)
class Candidate:
    """One way to run the steps: its chunks, its guidance, and how many blocks there is room for."""

    chunks: Chunks
    joint: bool
    resident: int
    resident_other: int
    streamed: int  # bytes a step, both experts together


@dataclass(frozen=True)
class Problem:
    """A clip to be fitted into a machine under a profile."""

    profile: Profile
    sizes: ModelSizes
    request: ClipRequest
    machine: Machine = UNKNOWN

    @property
    def budget(self) -> int:
        """Bytes of device memory that may be taken; 0 if there are none.

        On a card what the profile leaves, or what is free less CUDA's context, if that is less. On a CPU the free
        main memory less the headroom.
        """
        profile, machine = self.profile, self.machine
        if profile.device == "cpu":
            return max(0, (machine.ram_free or 0) - profile.headroom)
        own = profile.card - profile.headroom
        return own if machine.free is None else max(0, min(own, machine.free - profile.context))

    @property
    def room(self) -> int:
        """Bytes that may be planned: the budget less the allocator's part."""
        return self.budget * 100 // (100 + self.profile.spare_percent)

    @property
    def pinned(self) -> int:
        """Bytes of host memory that may be pinned."""
        ram, free = self.machine.ram, self.machine.ram_free
        most = self.profile.pinned if ram is None else min(self.profile.pinned, ram // RAM_SHARE)
        return most if free is None else min(most, free // RAM_SHARE)

    @property
    def arithmetic(self) -> Arithmetic:
        """The sums for this clip."""
        return Arithmetic(self.sizes, self.request, self.profile.device, self.profile.slots)

    @property
    def experts(self) -> Mapping[Expert, StackSizes]:
        """The stacks of both experts."""
        return {"high_noise": self.sizes.high_noise, "low_noise": self.sizes.low_noise}

    def least(self) -> Mapping[str, int]:
        """The least peak of every phase: no resident blocks, smallest chunks and tiles, one branch at a time."""
        sums, smallest = self.arithmetic, self.profile.rungs[-1]
        joint = self.profile.cfg == "joint"
        return {
            "text": sums.text(RING),
            **{name: sums.denoise(stack, smallest, RING, joint=joint) for name, stack in self.experts.items()},
            "decode": min(sums.decode(tile) for tile in self.tiles),
        }

    def fits(self) -> bool:
        """Whether the clip runs at all."""
        return max(self.least().values()) <= self.room

    @property
    def tiles(self) -> tuple[Tile | None, ...]:
        """Ways to decode, the best first."""
        whole: tuple[Tile | None, ...] = () if self.profile.tiling == "always" else (None,)
        return whole if self.profile.tiling == "never" else (*whole, *TILES)

    @cached_property
    def rungs(self) -> tuple[Chunks, ...]:
        """The sizes of chunks to try, the largest first: whole waves, if they win, and the profile's."""
        rungs, processors = self.profile.rungs, self.machine.multiprocessors
        if processors is None or self.profile.device == "cpu" or rungs[0] != Chunks():
            return rungs
        waves = whole_waves(processors)
        if waves in rungs or not self._win(waves, processors):
            return rungs
        return waves, *(chunks for chunks in rungs if chunks.attention <= waves.attention)

    def _win(self, waves: Chunks, processors: int) -> bool:
        """Whether whole waves win at least as large a part of the time as they may displace of the blocks."""
        before, after = (self._wave_time(chunks, processors) for chunks in (self.profile.largest, waves))
        blocks = max(self._displaced(stack, waves) / len(stack.blocks) for stack in self.experts.values())
        return after < before and 1 - after / before >= blocks

    def _wave_time(self, chunks: Chunks, processors: int) -> int:
        return wave_time(processors, self.sizes.config, self.request.clip(chunks))

    def _displaced(self, stack: StackSizes, chunks: Chunks) -> int:
        """The most blocks for which there is no room any more, beside the profile's largest chunks."""
        before, after = (
            self.arithmetic.denoise(stack, each, RING, joint=True) for each in (self.profile.largest, chunks)
        )
        return -(-max(0, after - before) // min(stack.blocks))

    def way(self) -> Candidate:
        """The best way to run the steps. The clip must fit."""
        for chunks in self.rungs:
            ways = list(self._ways(chunks))
            if ways:
                return min(ways, key=lambda way: (way.streamed, not way.joint))
        raise AssertionError("a clip that fits can be run in some way")

    def _ways(self, chunks: Chunks) -> Iterator[Candidate]:
        modes = {"auto": (True, False), "joint": (True,), "sequential": (False,)}[self.profile.cfg]
        for joint in modes if self.request.branches > 1 else (True,):
            left = {
                name: self.room - self.arithmetic.denoise(stack, chunks, RING, joint=joint)
                for name, stack in self.experts.items()
            }
            if min(left.values()) >= 0:
                yield self._filled(chunks, left, joint=joint)

    def _filled(self, chunks: Chunks, left: Mapping[Expert, int], *, joint: bool) -> Candidate:
        """Fill the remaining memory with blocks, if the chunks are the largest."""
        high, low = self.experts["high_noise"], self.experts["low_noise"]
        device = self.profile.device
        stacks = self.experts.items() if chunks == self.rungs[0] else ()
        resident = min((most_blocks(stack, left[name], device) for name, stack in stacks), default=0)
        whole = resident == len(high.blocks) == len(low.blocks)
        other = most_blocks(low, left["high_noise"] - held_bytes(high, resident, device), device) if whole else 0
        visits = 1 if joint else self.request.branches
        streamed = visits * sum(streamed_bytes(stack, resident) for stack in (high, low))
        return Candidate(chunks, joint, resident, other, streamed)

    def with_inputs_held(self, way: Candidate) -> Candidate:
        """The same with a shot's inputs held, if there is room when everything that is used in a step has its own.

        Blocks of the expert that comes next make way: they save one reading in a run.
        """
        if self.request.attention != "sparse":
            return way  # every token is shared there, and its input made before that of any shot
        chunks, device, sums = replace(way.chunks, holding=True), self.profile.device, self.arithmetic
        left = {
            name: self.room
            - sums.denoise(stack, chunks, RING, joint=way.joint)
            - held_bytes(stack, way.resident, device)
            for name, stack in self.experts.items()
        }
        if min(left.values()) < 0:
            return way
        other = min(way.resident_other, most_blocks(self.experts["low_noise"], left["high_noise"], device))
        return replace(way, chunks=chunks, resident_other=other)

    def cached(self, resident: int) -> int:
        """How many streaming blocks of each expert can stay in pinned memory, both experts' at once.

        None where that is taken from the card, unless a person's own profile says how much to pin.
        """
        if self.profile.device == "cpu" or (self.machine.pins_little and not self.profile.own):
            return 0
        stacks = self.experts.values()
        room = self.pinned - RING * self.sizes.slot - max(stack.adapters for stack in stacks)
        most = max(len(streaming_blocks(stack, resident)) for stack in stacks)
        fitting = (k for k in range(most, 0, -1) if sum(kept_bytes(each, resident, k) for each in stacks) <= room)
        return next(fitting, 0)


def most_blocks(stack: StackSizes, room: int, device: Device) -> int:
    """How many blocks, spread evenly, fit into the given bytes."""
    count = len(stack.blocks)
    return next(k for k in range(count, -1, -1) if k == 0 or held_bytes(stack, k, device) <= room)


def resident_bytes(stack: StackSizes, count: int) -> int:
    """Bytes of `count` blocks spread evenly."""
    return sum(stack.blocks[index] for index in evenly(count, len(stack.blocks)))


def held_bytes(stack: StackSizes, count: int, device: Device) -> int:
    """Bytes that resident blocks take on the device, with those of their weights that are cast."""
    cast = sum(stack.casts[index] for index in evenly(count, len(stack.casts))) if stack.casts else 0
    blocks = _granted(stack.blocks, device)
    return sum(blocks[index] for index in evenly(count, len(blocks))) + cast


@lru_cache(maxsize=16)
def _granted(blocks: tuple[int, ...], device: Device) -> tuple[int, ...]:
    """What the device gives for each block, worked out once: a search asks often."""
    return tuple(granted(nbytes, device) for nbytes in blocks)


def streamed_bytes(stack: StackSizes, resident: int) -> int:
    """Bytes of the blocks that are not resident."""
    return stack.total - resident_bytes(stack, resident)


def streaming_blocks(stack: StackSizes, resident: int) -> list[int]:
    """Bytes of each block that is not resident, in order."""
    stay = set(evenly(resident, len(stack.blocks)))
    return [nbytes for index, nbytes in enumerate(stack.blocks) if index not in stay]


def kept_bytes(stack: StackSizes, resident: int, cached: int) -> int:
    """Bytes of `cached` of the streaming blocks, spread evenly among them."""
    streaming = streaming_blocks(stack, resident)
    return sum(streaming[place] for place in evenly(min(cached, len(streaming)), len(streaming)))
