"""Streaming changes where weights are, and nothing else."""

import gc
import os
import threading
import tracemalloc
import weakref
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from file_experts import FileExperts
from guard import HANGS
from hypothesis import given, settings, strategies as st
from safetensors.torch import save_file
from small_model import config_of, random_model
from torch.utils._python_dispatch import TorchDispatchMode

from holo_lite.config import Defaults
from holo_lite.errors import CheckpointError
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.layers import TextRows
from holo_lite.model.load import load_expert
from holo_lite.sampling.sampler import Context, Guidance, initial_noise, sample
from holo_lite.sampling.schedule import Schedule
from holo_lite.story.shots import ShotLayout
from holo_lite.streaming.channel import Channel, ClosedError
from holo_lite.streaming.disk import DiskReader
from holo_lite.streaming.experts import ExpertSetup, StreamedExperts
from holo_lite.streaming.hooks import install
from holo_lite.streaming.image import network_images
from holo_lite.streaming.lanes import CpuLane
from holo_lite.streaming.residency import Residency
from holo_lite.streaming.streamer import Streamer
from holo_lite.text.encoder import TextEncoder
from holo_lite.weights import calls
from holo_lite.weights.alignment import ALIGNMENT
from holo_lite.weights.files import open_weights
from holo_lite.weights.folder import ModelFolder
from quantize.inputs import plan_conversion
from quantize.job import run_conversion
from quantize.recipe import Recipe

CPU, FP32 = torch.device("cpu"), torch.float32
DATA = Path(__file__).parents[1] / "parity_data"
EXPERTS = ("high_noise", "low_noise")
LAYERS, STEPS, TEXT_DIM = 5, 6, 64
CONFIG = replace(config_of(32, 4, LAYERS, 192), text_dim=TEXT_DIM)
CLIP = Clip(ShotLayout((0, 2), 4, 3, 4), "sparse", Chunks(24, 48))  # a chunk a shot: pieces of them cost time alone
SCHEDULE = Schedule.of(STEPS)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Two experts as released: one file each, tensors in no useful order."""
    folder = tmp_path_factory.mktemp("plain")
    for seed, expert in enumerate(EXPERTS):
        model = random_model(CONFIG, seed)
        save_file(model.state_dict(), folder / f"{expert}.safetensors")
    (folder / "dit_config.json").write_text('{"num_heads": 4}')
    return {expert: folder / f"{expert}.safetensors" for expert in EXPERTS}


@pytest.fixture(scope="module")
def converted(plain, tmp_path_factory):
    """The same, in 8 bits."""
    out = tmp_path_factory.mktemp("converted") / "model"
    folder = ModelFolder(
        plain["high_noise"].parent,
        "sparse",
        plain["high_noise"],
        plain["low_noise"],
        DATA / "text_encoder.safetensors",
        DATA / "vae.safetensors",
        DATA / "prompts.json",
        Defaults(),
    )
    list(run_conversion(plan_conversion(folder, out, Recipe("int8"), device=CPU)))
    return {expert: out / expert for expert in EXPERTS}


@pytest.fixture(params=["plain", "converted"])
def paths(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def from_files():
    """Latents of experts that are read whole, computed once for each pair of files."""
    return cache(lambda high, low: latents_of(FileExperts.of({"high_noise": high, "low_noise": low}, FP32, CPU)))


@pytest.fixture
def expected(paths, from_files):
    return from_files(*(paths[expert] for expert in EXPERTS))


def forwards(passes=1):
    high = SCHEDULE.first_low_noise_step
    return {"high_noise": passes * high, "low_noise": passes * (STEPS - high)}


def latents_of(experts, *, joint=True):
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(2, 512, TEXT_DIM, generator=generator)
    guidance = Guidance(Context(rows[0]), Context(rows[1]), 3.0)
    steps = sample(experts, initial_noise(CLIP, 1), guidance, SCHEDULE, CLIP, joint=joint)
    return [progress.latents for progress in steps]


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize(
    "residency",
    [
        Residency(),
        Residency(resident=2),
        Residency(resident=LAYERS, resident_other=2),
        Residency(resident=1, slots=3, ring=3, cached=2),
        Residency(slots=1, ring=1),
        Residency(cached=LAYERS),
    ],
    ids=str,
)
def test_where_blocks_are_kept_does_not_change_a_bit(paths, expected, residency, joint):
    with StreamedExperts(ExpertSetup(paths, FP32, CPU), forwards(1 if joint else 2), residency) as experts:
        found = latents_of(experts, joint=joint)
    assert len(found) == STEPS
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_converted_block_is_one_read(converted):
    file = open_weights(converted["high_noise"])
    for image in network_images(file, {}, "blocks", LAYERS).blocks:
        assert len(image.pieces) == 1
        assert image.pieces[0].offset % 4096 == 0
        assert all(view.place % ALIGNMENT == 0 for view in image.views)


def test_a_pickle_is_read_in_place(tmp_path):
    """The released text encoder is one: its records lie uncompressed in the archive."""
    model = random_model(config_of())
    torch.save(model.state_dict(), tmp_path / "x.pth")
    file = open_weights(tmp_path / "x.pth")
    images = network_images(file, {}, "blocks", 2)
    reader = DiskReader()
    for index, image in enumerate(images.blocks):
        buffer = torch.empty(image.nbytes, dtype=torch.uint8)
        reader.read(image, buffer)
        found = image.tensors(buffer)
        assert found.keys() == model.blocks[index].state_dict().keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in model.blocks[index].state_dict().items())


def test_gguf_says_that_it_must_be_converted():
    class Packed:
        path, entries = Path("x.gguf"), {}

    with pytest.raises(CheckpointError, match="convert it with holo-lite quantize"):
        network_images(Packed(), {}, "blocks", 2)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_what_was_cast_of_a_block_goes_when_the_block_goes(tmp_path, stored):
    """Kept, the casts of all blocks would be the whole model in memory."""
    paths = {}
    (tmp_path / "dit_config.json").write_text('{"num_heads": 4}')
    for seed, expert in enumerate(EXPERTS):
        paths[expert] = tmp_path / f"{expert}.safetensors"
        save_file(random_model(CONFIG, seed, stored).state_dict(), paths[expert])
    with StreamedExperts(ExpertSetup(paths, FP32, CPU), forwards()) as experts, experts.lend("high_noise") as model:
        text = TextRows(model.embed_text(torch.randn(512, TEXT_DIM)))
        model(initial_noise(CLIP, 0), torch.tensor(900.0), [text], CLIP)
        assert all(tensor.is_meta for block in model.blocks for tensor in block.state_dict().values())


def test_more_forwards_than_were_announced_are_an_error_and_no_standstill(paths):
    with (
        StreamedExperts(ExpertSetup(paths, FP32, CPU), {"high_noise": 1}) as experts,
        pytest.raises(AssertionError),
    ):
        run_forwards(experts, 2)


def run_forwards(experts, count):
    with experts.lend("high_noise") as model:
        text = TextRows(model.embed_text(torch.randn(512, TEXT_DIM)))
        for _ in range(count):
            model(initial_noise(CLIP, 0), torch.tensor(900.0), [text], CLIP)


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(12)), data=st.data())
def test_an_image_holds_the_blocks_tensors_wherever_they_lie_in_the_file(tmp_path_factory, order, data):
    """Tensors of three blocks and of none, mixed, of all sizes: each comes out of its image as it went in."""
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    names = [f"blocks.{index % 3}.w{index}" if index < 10 else f"head.{index}" for index in order]
    dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.uint8])
    tensors = {
        name: torch.randint(0, 99, (data.draw(st.integers(1, 40)), 3)).to(data.draw(dtypes)) for name in names
    }
    save_file(tensors, path)
    images = network_images(open_weights(path), {}, "blocks", 3).blocks
    reader = DiskReader()
    for index, image in enumerate(images):
        buffer = torch.empty(image.nbytes, dtype=torch.uint8)
        reader.read(image, buffer)
        found = image.tensors(buffer)
        assert {f"blocks.{index}.{name}" for name in found} == {
            n for n in names if n.startswith(f"blocks.{index}.")
        }
        assert all(torch.equal(tensor, tensors[f"blocks.{index}.{name}"]) for name, tensor in found.items())
    reader.close()


def test_a_system_that_reads_in_small_pieces_is_read_on(paths, monkeypatch):
    whole = calls._read_once
    monkeypatch.setattr(calls, "_read_once", lambda handle, target, offset: whole(handle, target[:1000], offset))
    with StreamedExperts(ExpertSetup(paths, FP32, CPU), forwards()) as experts:
        found = latents_of(experts)
    assert torch.equal(found[-1], latents_of(FileExperts.of(paths, FP32, CPU))[-1])


@pytest.fixture(params=["here", "where there is no preadv"])
def any_system(request, monkeypatch):
    if request.param != "here":
        monkeypatch.delattr(os, "preadv", raising=False)


@pytest.mark.usefixtures("any_system")
def test_a_block_is_read_in_place_on_every_system(converted, monkeypatch):
    """Not through an object of its own, which would be the block's size once more, and a copy."""
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("bytes come by way of an object"))
    images = network_images(open_weights(converted["high_noise"]), {}, "blocks", LAYERS).blocks
    reader, buffer = DiskReader(), torch.zeros(max(image.nbytes for image in images), dtype=torch.uint8)
    for image in (images[2], images[0]):
        (piece,) = image.pieces
        tracemalloc.start()
        reader.read(image, buffer)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < image.nbytes / 4
        expected = piece.path.read_bytes()[piece.offset : piece.offset + piece.nbytes]
        assert buffer[: piece.nbytes].numpy().tobytes() == expected
    reader.close()


@pytest.mark.usefixtures("any_system")
def test_a_file_cut_short_while_it_is_in_use_is_named(plain, tmp_path):
    copies = {expert: tmp_path / path.name for expert, path in plain.items()}
    for expert, path in plain.items():
        copies[expert].write_bytes(path.read_bytes())
    (tmp_path / "dit_config.json").write_text('{"num_heads": 4}')
    with StreamedExperts(ExpertSetup(copies, FP32, CPU), forwards()) as experts:
        with copies["high_noise"].open("r+b") as file:
            file.truncate(copies["high_noise"].stat().st_size // 2)
        with pytest.raises(CheckpointError, match=r"high_noise\.safetensors: ended early"):
            latents_of(experts)


def fail_within_a_block(experts):
    def fail(*_args):
        raise ArithmeticError

    with experts.lend("high_noise") as model:
        text = TextRows(model.embed_text(torch.randn(512, TEXT_DIM)))
        with patch.object(model.blocks[2].ffn, "unpacked", fail):
            model(initial_noise(CLIP, 0), torch.tensor(900.0), [text], CLIP)


def test_after_a_forward_that_raised_every_slot_is_free_again(paths):
    """accelerate calls no post_forward then: a slot lost each time would end in a standstill."""
    with StreamedExperts(ExpertSetup(paths, FP32, CPU), forwards(), Residency(slots=1, ring=1)) as experts:
        for _ in range(3):
            with pytest.raises(ArithmeticError):
                fail_within_a_block(experts)
        found = latents_of(experts)
    assert torch.equal(found[-1], latents_of(FileExperts.of(paths, FP32, CPU))[-1])


def test_cancelling_between_steps_leaves_no_thread_and_no_slot_behind(paths):
    before = threading.active_count()
    with StreamedExperts(ExpertSetup(paths, FP32, CPU), forwards()) as experts:
        guidance = Guidance(Context(torch.randn(512, TEXT_DIM)))
        steps = sample(experts, initial_noise(CLIP, 1), guidance, SCHEDULE, CLIP)
        next(steps)
        steps.close()
        assert threading.active_count() == before
    slots = [weakref.ref(slot.data) for slot in experts._holdings.slots]
    del steps
    assert all(slot() is None for slot in slots)


def test_nothing_is_allocated_for_weights_after_the_first_step(paths, monkeypatch):
    made = []
    original = CpuLane.device_buffer
    monkeypatch.setattr(CpuLane, "device_buffer", lambda lane, n: made.append(n) or original(lane, n))
    with StreamedExperts(ExpertSetup(paths, FP32, CPU), forwards(), Residency(resident=2)) as experts:
        latents_of(experts)
    assert len(made) == 2 + 2 * (2 + 1), "two slots, and for each expert two resident blocks and the rest"


def test_a_block_in_host_memory_is_not_read_again(paths, monkeypatch):
    reads = []
    original = DiskReader.read
    monkeypatch.setattr(DiskReader, "read", lambda *args: reads.append(args[1]) or original(*args))
    with StreamedExperts(ExpertSetup(paths, FP32, CPU), forwards(), Residency(cached=LAYERS)) as experts:
        latents_of(experts)
    assert len(reads) == 2 * LAYERS + 2, "every block once, and the rest of each expert"


def test_both_branches_are_served_by_one_visit(paths, monkeypatch):
    taken = []
    original = Streamer.take
    monkeypatch.setattr(Streamer, "take", lambda streamer, key: taken.append(key) or original(streamer, key))
    with StreamedExperts(ExpertSetup(paths, FP32, CPU), forwards()) as experts:
        latents_of(experts, joint=True)
    assert len(taken) == STEPS * LAYERS


def test_the_second_expert_is_on_its_way_before_the_switch(paths):
    """The itinerary goes on into the second expert, so its first blocks come without being asked for."""
    with StreamedExperts(ExpertSetup(paths, FP32, CPU), forwards()) as experts:
        visits = list(experts._itinerary("high_noise"))
    switch = visits.index(("low_noise", 0))
    assert visits[switch - 1] == ("high_noise", LAYERS - 1)
    assert len(visits) == STEPS * LAYERS


def test_the_text_encoder_streams_to_the_same_bits(converted):
    for path in (DATA / "text_encoder.safetensors", converted["high_noise"].parent / "text_encoder"):
        whole = TextEncoder.load(path, dtype=FP32, device=CPU)
        streamed = TextEncoder.stream(path, dtype=FP32, device=CPU)
        for ids in ([5, 6, 7, 1], [1], list(range(2, 40))):
            assert torch.equal(streamed.encode(ids), whole.encode(ids))
        streamed.close()


def test_streamed_weights_are_views_into_slots_and_never_copied(converted):
    """In the stored dtype a block's tensors lie within the slot they came in."""
    model = load_expert(converted["high_noise"], dtype=torch.bfloat16, device=CPU)
    image = network_images(open_weights(converted["high_noise"]), {}, "blocks", LAYERS).blocks[0]
    buffer = torch.empty(image.nbytes, dtype=torch.uint8)
    start = buffer.data_ptr()
    tensors = image.tensors(buffer)
    assert tensors.keys() == model.blocks[0].state_dict().keys()
    assert all(start <= tensor.data_ptr() < start + image.nbytes for tensor in tensors.values())


def test_a_cpu_counts_the_time_until_a_block_has_come(converted, monkeypatch):
    """By a clock that goes on while a block is read, which is when somebody has begun to wait for it."""
    read, mark, begun, clock = DiskReader.read, CpuLane.mark, threading.Event(), [0.0]

    def marked(lane):
        since = mark(lane)
        begun.set()
        return since

    def slow(*given):
        assert begun.wait(HANGS)
        clock[0] += 0.05
        return read(*given)

    monkeypatch.setattr("holo_lite.streaming.lanes.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(CpuLane, "mark", marked)
    monkeypatch.setattr(DiskReader, "read", slow)
    images = network_images(open_weights(converted["high_noise"]), {}, "blocks", LAYERS).blocks[:1]
    lane, size = CpuLane(), images[0].nbytes
    ring = [lane.host_buffer(size, pinned=True)]
    streamer = Streamer(iter([0]), dict(enumerate(images)), lane, slots=[lane.device_buffer(size)], ring=ring)
    streamer.give_back(streamer.take(0))
    assert lane.waited() > 0
    assert lane.waited() == 0
    streamer.close()


def test_a_cast_that_finds_no_memory_leaves_the_block_as_it_was():
    """Half of a block's weights left in place would be a slot that somebody else fills."""
    block = random_model(CONFIG).blocks[0]
    before = {name: tensor.data_ptr() for name, tensor in block.state_dict().items()}
    given = {name: tensor.to(torch.bfloat16) for name, tensor in block.state_dict().items()}

    class Full(TorchDispatchMode):
        left = 3

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.left -= 1
            if not self.left:
                raise torch.OutOfMemoryError
            return func(*args, **(kwargs or {}))

    with Full(), pytest.raises(torch.OutOfMemoryError):
        install(block, given, FP32)
    assert {name: tensor.data_ptr() for name, tensor in block.state_dict().items()} == before


def test_a_block_whose_hook_is_taken_off_is_in_no_circle(paths):
    """A circle of references would keep it, and what hangs on it, until the next collection."""
    gc.collect()
    gc.disable()
    try:
        with (
            StreamedExperts(ExpertSetup(paths, FP32, CPU), forwards()) as experts,
            experts.lend("high_noise") as model,
        ):
            block = weakref.ref(model.blocks[0])
            del model
        assert block() is None
    finally:
        gc.enable()


def test_a_closed_channel_ends_all_waiting():
    channel = Channel()
    ended = threading.Event()

    def wait():
        with pytest.raises(ClosedError):
            channel.get()
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    channel.close()
    thread.join(timeout=HANGS)
    assert ended.is_set()
    with pytest.raises(ClosedError):
        channel.put(1)
