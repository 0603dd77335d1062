"""The card's lane without a card: whatever order a card takes its streams in, the bits are the CPU's.

`fake_cuda` stands in for torch.cuda. Blocks' forwards are queued on its computing stream, as kernels would be, so
that the host is far ahead of them; what reads their results waits.
"""

import copy
import re
import threading
import time
import weakref
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from fake_cuda import BLOCK, COPY, ORDERS, FakeCuda
from guard import HANGS
from test_ladder import PLAN, denoiser, drive, undisturbed  # noqa: F401 - two are fixtures
from test_streaming import (  # noqa: F401 - plain is a fixture
    CLIP,
    CPU,
    FP32,
    LAYERS,
    SCHEDULE,
    TEXT_DIM,
    forwards,
    latents_of,
    plain,
)

from holo_lite.errors import RoomError
from holo_lite.model.clip import Chunks
from holo_lite.model.dit import Block, WanDiT
from holo_lite.sampling.sampler import Context, Guidance, initial_noise, sample
from holo_lite.streaming.blocks import BlockStream
from holo_lite.streaming.cuda_lane import CudaLane
from holo_lite.streaming.disk import DiskReader
from holo_lite.streaming.experts import ExpertSetup, StreamedExperts, open_images
from holo_lite.streaming.holdings import ExpertMemory
from holo_lite.streaming.host_adapters import HostAdapters
from holo_lite.streaming.image import BlockImage, Piece, View
from holo_lite.streaming.lane import PinError
from holo_lite.streaming.residency import BlockPlaces, Residency
from holo_lite.streaming.streamer import Streamer

SIZE = 5000
DRAWS = [(order, 0) for order in ORDERS[:-1]] + [("any", seed) for seed in range(3)]
KEPT = [Residency(), Residency(resident=2, cached=1), Residency(resident=LAYERS, resident_other=2)]
KEPT += [Residency(slots=1, ring=1), Residency(cached=2, slots=3), Residency(pinned=False)]


def twin(module):
    """A module with the weights of this moment, and without its hook."""
    found = copy.copy(module)
    found.__dict__.pop("forward", None)
    found._parameters, found._buffers = dict(module._parameters), dict(module._buffers)
    found._modules = {name: twin(child) for name, child in module._modules.items()}
    return found


def on_a_card(monkeypatch, order="late", seed=0, limit=2**40):
    """A card on which blocks compute when they have to, as late as anything looks at what they made."""
    card = FakeCuda(order, seed, limit)
    card.install(monkeypatch)
    forward, project = Block.forward, WanDiT._project

    def queued(block, *given):
        card.launch()
        now = twin(block)
        card.computing.work(lambda: forward(now, *given), BLOCK)

    def looked_at(*given):
        card.computing.synchronize()
        return project(*given)

    monkeypatch.setattr(Block, "forward", queued)
    monkeypatch.setattr(WanDiT, "_project", looked_at)
    for module in ("experts", "blocks"):
        monkeypatch.setattr(f"holo_lite.streaming.{module}.lane_for", CudaLane)
    return card


@pytest.fixture(scope="module")
def expected(plain):  # noqa: F811
    with StreamedExperts(ExpertSetup(plain, FP32, CPU), forwards()) as experts:
        return latents_of(experts)


@pytest.mark.parametrize(("order", "seed"), DRAWS)
@pytest.mark.parametrize("residency", KEPT, ids=str)
def test_no_order_of_the_streams_changes_a_bit(plain, expected, monkeypatch, residency, order, seed):  # noqa: F811
    card = on_a_card(monkeypatch, order, seed)
    with StreamedExperts(ExpertSetup(plain, FP32, CPU), forwards(), residency) as experts:
        found = latents_of(experts)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert card.faults == []
    assert card.runtime.pinned == {}, "all that was pinned is unpinned again"


@pytest.mark.parametrize(("order", "seed"), DRAWS)
def test_a_run_that_is_cut_off_frees_nothing_that_is_still_written(plain, monkeypatch, order, seed):  # noqa: F811
    card = on_a_card(monkeypatch, order, seed)
    with StreamedExperts(ExpertSetup(plain, FP32, CPU), forwards(), Residency(cached=2)) as experts:
        steps = sample(
            experts, initial_noise(CLIP, 1), Guidance(Context(torch.randn(512, TEXT_DIM))), SCHEDULE, CLIP
        )
        next(steps)
        steps.close()
    assert card.faults == []
    assert card.runtime.pinned == {}


# --- blocks that stay come by themselves -----------------------------------------------------------

STAYING = [
    Residency(resident=2),
    Residency(resident=LAYERS, resident_other=2),
    Residency(cached=LAYERS),
    Residency(resident=2, cached=3),
    Residency(resident=3, cached=1, slots=1, ring=1),
]


class Visits:
    """How often each image was read, and how many had been when the first block began to compute."""

    def __init__(self, monkeypatch, most=None):
        self.read, self.before_the_first, self.begun = Counter(), None, threading.Event()
        read, forward = DiskReader.read, Block.forward

        def watched(disk, image, buffer):
            if most is not None and self.read.total() == most:
                assert self.begun.wait(HANGS), "more than that was wanted before the first kernel"
            self.read[image] += 1
            return read(disk, image, buffer)

        def computed(block, *given):
            if not self.begun.is_set():
                self.before_the_first = self.read.total()
                self.begun.set()
            return forward(block, *given)

        monkeypatch.setattr(DiskReader, "read", watched)
        monkeypatch.setattr(Block, "forward", computed)


def step_waits(experts):
    """Seconds that each step has waited."""
    guidance = Guidance(Context(torch.randn(512, TEXT_DIM)))
    return [experts.waited() for _ in sample(experts, initial_noise(CLIP, 1), guidance, SCHEDULE, CLIP)]


@pytest.mark.parametrize("residency", STAYING, ids=str)
def test_the_first_kernel_waits_for_one_block_alone(plain, monkeypatch, residency):  # noqa: F811
    """Beside what belongs to no block. A disk that gave a second one late would hold nothing up before it."""
    on_a_card(monkeypatch)
    seen = Visits(monkeypatch, most=1 + 1)
    with StreamedExperts(ExpertSetup(plain, FP32, CPU), forwards(), residency) as experts:
        latents_of(experts)
    assert seen.before_the_first <= 2


@pytest.mark.parametrize("residency", STAYING, ids=str)
@pytest.mark.parametrize("order", ["late", "copies first"])
def test_the_first_forward_waits_as_long_as_one_that_streams(plain, monkeypatch, residency, order):  # noqa: F811
    """And the later ones for those blocks alone that go on streaming."""

    def waits(of):
        on_a_card(monkeypatch, order)
        with StreamedExperts(ExpertSetup(plain, FP32, CPU), forwards(), of) as experts:
            return step_waits(experts)

    streamed = waits(Residency(slots=residency.slots, ring=residency.ring))
    found, switch = waits(residency), SCHEDULE.first_low_noise_step
    if residency.slots > 1:  # with one alone, blocks with a place of their own need not wait for it
        assert found[0] == pytest.approx(streamed[0])
    assert all(new <= old + 1e-9 for new, old in zip(found, streamed, strict=True))
    if residency.resident == LAYERS:
        assert found[1:switch] == [0] * (switch - 1)
        assert found[switch + 1 :] == [0] * (len(found) - switch - 1)


@pytest.mark.parametrize("residency", STAYING, ids=str)
def test_what_stays_is_read_once_and_all_else_at_every_visit(plain, monkeypatch, residency):  # noqa: F811
    on_a_card(monkeypatch)
    seen, runs = Visits(monkeypatch), forwards()
    with StreamedExperts(ExpertSetup(plain, FP32, CPU), runs, residency) as experts:
        latents_of(experts)
    places = BlockPlaces.chosen(LAYERS, residency)
    for expert, path in plain.items():
        part = open_images(path)
        assert seen.read[part.rest] == 1
        for index, image in enumerate(part.images):
            assert seen.read[image] == (1 if index in {*places.stay, *places.cached} else runs[expert])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("residency", STAYING, ids=str)
def test_no_memory_of_a_block_is_taken_after_the_first_kernel(plain, monkeypatch, residency, order):  # noqa: F811
    """Among a layer's memory it would split what the next layer needs whole, and escape the plan."""
    card, taken = on_a_card(monkeypatch, order), []
    empty = card.empty
    monkeypatch.setattr(card, "empty", lambda nbytes: taken.append(nbytes) or empty(nbytes))
    with StreamedExperts(ExpertSetup(plain, FP32, CPU), forwards(), residency) as experts:
        steps = sample(
            experts, initial_noise(CLIP, 1), Guidance(Context(torch.randn(512, TEXT_DIM))), SCHEDULE, CLIP
        )
        counts = [len(taken) for _ in steps]
    switch = SCHEDULE.first_low_noise_step
    assert counts[0] == residency.slots + residency.resident + residency.resident_other + 1
    assert counts[switch] == counts[0] + residency.resident - residency.resident_other + 1, "and what is no block"
    assert counts == [counts[0]] * switch + [counts[switch]] * (len(counts) - switch)


@pytest.mark.parametrize("order", ORDERS)
def test_blocks_of_the_next_expert_that_stay_come_while_the_first_one_works(plain, monkeypatch, order):  # noqa: F811
    """Before the blocks between them, which would wait for slots. Its first forward waits for those alone."""
    on_a_card(monkeypatch, order)
    residency = Residency(resident=LAYERS, resident_other=2, slots=1, ring=1)
    with StreamedExperts(ExpertSetup(plain, FP32, CPU), forwards(), residency) as experts:
        early = {("low_noise", index) for index in experts._places["low_noise"].early}
        for progress in sample(
            experts, initial_noise(CLIP, 1), Guidance(Context(torch.randn(512, TEXT_DIM))), SCHEDULE, CLIP
        ):
            if progress.step.index == SCHEDULE.first_low_noise_step - 1:
                deadline = time.monotonic() + HANGS
                while not early <= experts._holdings.filled and time.monotonic() < deadline:
                    time.sleep(0.001)
                assert early <= experts._holdings.filled


# --- memory that runs out --------------------------------------------------------------------------


def shared(card, room):
    """The card's own memory and what is pinned are one, as on Windows: so many bytes of both.

    Pins are not refused. What does not fit then is what the card is asked for next: memory, or a kernel.
    """
    given, launch, held = card.empty, card.launch, [0]

    def launched():
        if held[0] + sum(card.runtime.pinned.values()) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        launch()

    def empty(nbytes):
        if held[0] + sum(card.runtime.pinned.values()) + nbytes > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        tensor = given(nbytes)
        held[0] += nbytes
        weakref.finalize(tensor, lambda: held.__setitem__(0, held[0] - nbytes))
        return tensor

    card.empty, card.launch = empty, launched


def test_where_pinned_memory_is_the_cards_a_shortage_takes_the_pinned_blocks_first(
    denoiser,  # noqa: F811
    undisturbed,  # noqa: F811
    monkeypatch,
):
    """Otherwise everything else is given up, which does not help, and the run ends.

    Slots, a resident block, ring and the rest of the weights have room, but no pinned blocks, and nothing has once
    they have come, not even without the resident one.
    """
    part = open_images(denoiser.paths["low_noise"])
    block, rest = max(image.nbytes for image in part.images), part.rest.nbytes
    card = on_a_card(monkeypatch)
    shared(card, 5 * block + rest)
    wanted = replace(PLAN, resident=1, resident_other=0, pinned_cache_blocks=2)
    monkeypatch.setattr("holo_lite.render.denoise_phase.pinned_is_scarce", lambda: False)
    with pytest.raises(RoomError, match="no resident blocks"):
        drive(denoiser, wanted)
    monkeypatch.setattr("holo_lite.render.denoise_phase.pinned_is_scarce", lambda: True)
    found, plan, _ = drive(denoiser, wanted)
    assert [rung.change for rung in plan.rungs] == ["no blocks kept in pinned memory, which is the card's here"]
    assert replace(plan, rungs=(), pinned_cache_blocks=2) == wanted
    assert torch.equal(found, undisturbed)
    assert (card.faults, card.runtime.pinned) == ([], {})


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("limit", [2.5, 1.5, 0], ids=["ring only", "one buffer", "nothing"])
def test_a_card_whose_system_pins_little_makes_the_same_bits(denoiser, undisturbed, monkeypatch, order, limit):  # noqa: F811
    nbytes = max(image.nbytes for image in open_images(denoiser.paths["low_noise"]).images)
    card = on_a_card(monkeypatch, order, limit=int(limit * nbytes))
    found, plan, _ = drive(denoiser, replace(PLAN, resident=1, resident_other=0, pinned_cache_blocks=2))
    assert (plan.pinned_cache_blocks, plan.pinned_ring) == (0, limit > 2)
    assert torch.equal(found, undisturbed)
    assert (card.faults, card.runtime.pinned, card.last_error) == ([], {}, 0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("place", [2, 7, 9])
def test_a_card_that_is_full_in_the_middle_of_a_step_makes_the_same_bits(
    denoiser,  # noqa: F811
    undisturbed,  # noqa: F811
    monkeypatch,
    order,
    place,
):
    """Blocks before the one that failed are still under way when the run goes on; nothing of them is left."""
    card = on_a_card(monkeypatch, order)
    launch, asked = card.launch, count(1)

    def full_once():
        if next(asked) == place:
            raise torch.OutOfMemoryError("CUDA out of memory")
        launch()

    monkeypatch.setattr(card, "launch", full_once)
    found, plan, _ = drive(denoiser, replace(PLAN, chunks=Chunks(256, 128), pinned_cache_blocks=1))
    assert [rung.change for rung in plan.rungs] == ["1 resident blocks"]
    assert torch.equal(found, undisturbed)
    assert (card.faults, card.runtime.pinned) == ([], {})


# --- single waits ----------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    """Eight blocks of one tensor each, all bytes of which are the block's number."""
    found = []
    for index in range(8):
        path = tmp_path / f"{index}"
        path.write_bytes(bytes([index]) * SIZE)
        view = View("x", (SIZE,), torch.uint8, 0)
        found.append(BlockImage((Piece(path, 0, SIZE, 0),), (view,), SIZE))
    return dict(enumerate(found))


def lane_of(monkeypatch, order):
    card = FakeCuda(order)
    card.install(monkeypatch)
    return card, CudaLane(CPU)


def streamer_of(images, lane, slots, ring):
    return Streamer(iter(images), images, lane, slots=slots, ring=ring)


def buffers(lane):
    return [lane.device_buffer(SIZE) for _ in range(2)], [lane.host_buffer(SIZE, pinned=True) for _ in range(2)]


def read(card, slot, seen):
    """Compute from a slot: what the block's weights are when the card comes to it."""
    data = slot.data[:]
    card.computing.work(lambda: seen.append(int(data.float().mean())), BLOCK)


@pytest.mark.parametrize("order", ORDERS)
def test_the_slot_of_a_forward_that_was_cut_off_is_filled_again_only_after_it(monkeypatch, images, order):
    card, lane = lane_of(monkeypatch, order)
    slots, ring = buffers(lane)
    seen = []
    first = streamer_of(images, lane, slots, ring)
    read(card, first.take(0).slot, seen)
    first.close()
    second = Streamer(iter((5, 6)), images, lane, slots=slots, ring=ring)
    for key in (5, 6):
        arrival = second.take(key)
        read(card, arrival.slot, seen)
        second.give_back(arrival)
    card.computing.synchronize()
    second.close()
    assert seen == [0, 5, 6]


@pytest.mark.parametrize("order", ORDERS)
def test_memory_that_was_given_back_is_filled_only_after_whoever_still_reads_it(monkeypatch, order):
    card, lane = lane_of(monkeypatch, order)
    seen = []
    for number in (3, 4):
        host, slot = lane.host_buffer(SIZE, pinned=False), lane.device_buffer(SIZE)
        host.data.fill_(number)
        lane.copy(host, slot, SIZE)
        lane.await_copied(host)
        read(card, slot, seen)
        del slot  # the allocator gives the same memory to the next
    card.computing.synchronize()
    assert seen == [3, 4]


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_no_block_has_come_before_anybody_computes_with_it(plain, monkeypatch, order):  # noqa: F811
    """Nothing later waits for it."""
    card, lane = lane_of(monkeypatch, order)
    part = open_images(plain["high_noise"])
    disk = DiskReader()
    held = ExpertMemory(lane, {"high_noise": part})
    found, expected = held.bring(disk, part.rest), torch.empty(part.rest.nbytes, dtype=torch.uint8)
    disk.read(part.rest, expected)
    disk.close()
    assert torch.equal(found.data, expected)
    assert card.faults == []


@pytest.mark.parametrize("order", ORDERS)
def test_a_host_buffer_is_unpinned_after_the_copy_out_of_it(monkeypatch, order):
    card, lane = lane_of(monkeypatch, order)
    host, slot = lane.host_buffer(SIZE, pinned=True), lane.device_buffer(SIZE)
    lane.copy(host, slot, SIZE)
    lane.free_host(host)
    lane.free_host(host)
    assert card.faults == []
    assert card.runtime.pinned == {}
    lane.drain()


@pytest.mark.parametrize("order", ORDERS)
def test_adapters_are_unpinned_after_the_computation_that_reads_them(monkeypatch, order):
    """It copies factors itself, out of the middle of the memory that holds them all."""
    card, lane = lane_of(monkeypatch, order)
    hosted = HostAdapters(lane, lane.host_buffer(SIZE, pinned=True), {}, {})
    hosted.buffer.data.fill_(7)
    factor = torch.zeros(100, dtype=torch.uint8)
    with torch.inference_mode(), card.stream(card.computing):
        factor.copy_(hosted.buffer.data[512:612], non_blocking=True)
    hosted.close()
    assert (card.faults, card.runtime.pinned) == ([], {})
    assert bool((factor == 7).all())


def test_pinned_pages_are_large_and_no_childs(monkeypatch):
    """Of a page that is shared with one, a copy is made where either writes, and the card keeps the other's."""
    _, lane = lane_of(monkeypatch, "late")
    host = lane.host_buffer(8 * 2**20, pinned=True)
    flags = flags_of(host.data.data_ptr())
    assert "dc" in flags, "left out of a fork"
    assert ("hg" in flags) == Path("/sys/kernel/mm/transparent_hugepage").exists()


def flags_of(address):
    """What the system notes of the memory at an address: two letters for each."""
    if not Path("/proc/self/smaps").exists():
        pytest.skip("this system does not tell")
    here = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            here = int(found[1], 16) <= address < int(found[2], 16)
        elif here and line.startswith("VmFlags:"):
            return line.split()[1:]
    raise AssertionError("it is mapped nowhere")


@pytest.mark.parametrize("order", ORDERS)
def test_the_time_computation_waits_is_the_cards(monkeypatch, images, order):
    """The first block's whole copy, and of the others what is longer than a block computes."""
    card, lane = lane_of(monkeypatch, order)
    streamer = streamer_of(images, lane, *buffers(lane))
    for key in images:
        arrival = streamer.take(key)
        read(card, arrival.slot, [])
        streamer.give_back(arrival)
    assert lane.waited() == pytest.approx((COPY + 7 * (COPY - BLOCK)) / 1000)
    assert lane.waited() == 0
    streamer.close()


# --- pinned memory that is refused -----------------------------------------------------------------


def test_a_refusal_to_pin_is_taken_up_before_a_kernel_is_blamed_for_it(monkeypatch):
    card = FakeCuda(limit=SIZE)
    card.install(monkeypatch)
    lane = CudaLane(CPU)
    lane.host_buffer(SIZE, pinned=True)
    with pytest.raises(PinError):
        lane.host_buffer(1, pinned=True)
    card.launch()
    assert card.faults == [], "it is taken up on the card that refused"


def test_a_system_without_pages_for_a_buffer_pins_none(monkeypatch):
    _, lane = lane_of(monkeypatch, "late")

    def refuse(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("holo_lite.streaming.cuda_lane.mmap.mmap", refuse)
    with pytest.raises(PinError, match="Cannot allocate memory"):
        lane.host_buffer(SIZE, pinned=True)


def test_streams_of_blocks_that_cannot_begin_leave_nothing_pinned(monkeypatch, images):
    card = on_a_card(monkeypatch, limit=SIZE)
    with pytest.raises(PinError):
        BlockStream([], list(images.values()), dtype=FP32, device=CPU)
    assert card.runtime.pinned == {}
    card.runtime.limit = 2**40

    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(card, "empty", full)
    with pytest.raises(torch.OutOfMemoryError):
        BlockStream([], list(images.values()), dtype=FP32, device=CPU)
    assert card.runtime.pinned == {}
