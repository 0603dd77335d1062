"""Weights that are not what was written are told by name before anything made with them is kept."""

import hashlib
import itertools
import os
import shutil
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from guard import HANGS
from hypothesis import HealthCheck, given, settings, strategies as st
from toy_files import toy_model

from holo_lite import ModelOptions, Options, Pipeline, Shot, Storyboard
from holo_lite.errors import CheckpointError
from holo_lite.events import FrameDone, PhaseStarted, StepDone
from holo_lite.runs.folder import RunFolder
from holo_lite.streaming.disk import DiskReader
from holo_lite.streaming.image import BlockImage, Piece, View
from holo_lite.streaming.lanes import CpuLane
from holo_lite.system.cache_folder import CACHE_VARIABLE
from holo_lite.tiny.model import tiny_model
from holo_lite.weights import hashing
from holo_lite.weights.alignment import PAGE
from holo_lite.weights.audit import Audit
from holo_lite.weights.folder import open_folder
from holo_lite.weights.hashing import Hasher
from holo_lite.weights.manifest import read_manifest
from holo_lite.weights.stamps import stamp

BOARD = Storyboard("[character1] is a red circle.", (Shot("Wide shot of [character1]."), Shot("Close-up.")))
SMALL = Options(frames=5, height=16, width=16, steps=3)  # two steps of the first expert, one of the second
SHARDS = [shard.file for part in read_manifest(tiny_model()).components.values() for shard in part.shards]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A converted model to be spoilt; every test mends what it spoils."""
    return shutil.copytree(tiny_model(), tmp_path_factory.mktemp("audit") / "model")


@pytest.fixture(autouse=True, params=[1, 3], ids=["one thread", "three threads"])
def hands(request, monkeypatch):
    """However many cores there are."""
    monkeypatch.setattr(hashing, "hands", lambda: request.param)


@contextmanager
def flipped(path, place=-5000):
    """One byte of a file is another while this is entered."""
    content = path.read_bytes()
    changed = bytearray(content)
    changed[place] ^= 1
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(content)


def hashing_now():
    return [thread for thread in threading.enumerate() if thread.name.startswith("audit")]


def told(path):
    return f"{path}: has changed since it was written (its sha256 differs); copy the file again, or "


# --- what is found -------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(SHARDS), share=st.floats(0, 1))
def test_a_byte_that_changed_anywhere_is_found_and_its_file_named(model, name, share):
    path, whole = model / name, set()
    part = path.parent
    with Audit(whole) as audit:
        audit.settle(part)
    place = int(share * (path.stat().st_size - 1))
    with flipped(path, place), Audit(whole) as audit, pytest.raises(CheckpointError) as caught:
        audit.settle(part)
    assert str(caught.value).startswith(told(path))
    with Audit(whole) as audit:
        audit.settle(part)


def test_what_is_whole_is_hashed_once_and_again_when_it_is_written_again(model, monkeypatch):
    hashed, look = [], Hasher._hash
    monkeypatch.setattr(Hasher, "_hash", lambda *given: (hashed.append(given[1].name), look(*given))[1])
    whole, part = set(), model / "text_encoder"
    for _ in range(2):
        with Audit(whole) as audit:
            audit.settle(part)
    assert sorted(hashed) == ["block-00.safetensors", "block-01.safetensors", "rest.safetensors"]
    with flipped(part / "block-00.safetensors"):
        pass
    with Audit(whole) as audit:
        audit.settle(part)
    assert hashed[3:] == ["block-00.safetensors"]


def test_a_shard_that_is_gone_is_named(model):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    path.rename(model / "aside")
    try:
        with (
            Audit() as audit,
            pytest.raises(CheckpointError, match=r"diffusion_pytorch_model\.safetensors: cannot"),
        ):
            audit.settle(path.parent)
    finally:
        (model / "aside").rename(path)


def test_a_fault_that_is_known_is_told_though_another_part_was_asked_for(model):
    """What the second expert would say after half an hour is said after the first step."""
    low = model / "low_noise" / "block-03.safetensors"
    with flipped(low), Audit() as audit:
        audit.begin(model / "low_noise", model / "high_noise")
        while audit._hasher.fault is None:
            time.sleep(0.001)
        with pytest.raises(CheckpointError) as caught:
            audit.settle(model / "high_noise")
    assert str(caught.value).startswith(told(low))


def test_the_end_of_a_run_ends_what_is_under_way(model, monkeypatch):
    monkeypatch.setattr(hashing, "PIECE", 1)  # which would take a minute
    with Audit() as audit:
        audit.begin(model / "high_noise")
        threads = hashing_now()
        assert threads
    assert not any(thread.is_alive() for thread in threads)
    assert not audit.whole


def test_files_that_nobody_hashed_are_left_alone(cache):
    folder = open_folder(toy_model(cache))
    with Audit() as audit:
        audit.begin(*folder.weight_paths)
        assert not hashing_now()
        audit.settle(folder.high_noise)


# --- what is hashed is what is read ----------------------------------------------------------------


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(0, 60),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    piece=st.integers(1, 20),
    order=st.randoms(use_true_random=False),
)
def test_parts_in_memory_and_the_rest_from_the_file_make_the_files_hash(tmp_path, size, cuts, piece, order):
    path, content = tmp_path / "file", bytes(range(100, 100 + size))
    path.write_bytes(content)
    cuts = sorted({min(cut, size) for cut in cuts})
    parts = [(start, memoryview(content)[start:end]) for start, end in itertools.pairwise(cuts)][::2]
    order.shuffle(parts)
    whole, seen = set(), stamp(path)
    hasher = Hasher(whole)
    with patch.object(hashing, "PIECE", piece):
        hasher.expect(seen, hashlib.sha256(content).hexdigest())
        hasher.hash(path, parts)
        hasher.wait([path])
    hasher.stop()
    assert (hasher.fault, whole) == (None, {seen})


def test_a_byte_that_was_read_wrongly_is_found_though_the_file_is_right(pipeline, model, tmp_path, monkeypatch):
    """A cable, or memory that fails: hashing the file would find it whole."""
    read, path = DiskReader.read, model / "high_noise" / "block-02.safetensors"

    def wrongly(disk, image, buffer):
        read(disk, image, buffer)
        if image.pieces[0].path == path:
            buffer[1000] ^= 1

    monkeypatch.setattr(DiskReader, "read", wrongly)
    with pytest.raises(CheckpointError) as caught:
        list(pipeline.generate(BOARD, tmp_path / "a.mp4", SMALL))
    assert str(caught.value).startswith(told(path))


@pytest.mark.parametrize("profile", ["auto", "streamed"])
def test_no_byte_of_a_streamed_block_is_read_to_be_hashed(model, tmp_path, monkeypatch, profile):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))  # no prompt is known
    used, hashed = defaultdict(set), Counter()
    read, add = DiskReader.fill, Hasher._add_up_to

    def read_piece(disk, path, offset, target):
        used[path].add((offset, len(target)))
        read(disk, path, offset, target)

    def hash_file(hasher, adder, file, start, end):
        def count(part):
            hashed[Path(file.name)] += len(part)
            adder(part)

        return add(hasher, count, file, start, end)

    monkeypatch.setattr(DiskReader, "fill", read_piece)
    monkeypatch.setattr(Hasher, "_add_up_to", hash_file)
    pipeline = Pipeline.load(model, ModelOptions(device="cpu"))
    if profile == "streamed":
        streamed = replace(pipeline.prepare(BOARD, SMALL).plan, resident=0, resident_other=0)
        list(pipeline.run(replace(pipeline.prepare(BOARD, SMALL), plan=streamed), tmp_path / "a.mp4"))
    else:
        list(pipeline.generate(BOARD, tmp_path / "a.mp4", SMALL))
    experts = {model / name for name in SHARDS if name.partition("/")[0] in ("high_noise", "low_noise")}
    blocks = {model / name for name in SHARDS if name.startswith("text_encoder/block")}
    assert used.keys() == experts | blocks
    for path, pieces in used.items():
        (piece,) = pieces  # read often, but always the same
        assert hashed[path] + piece[1] == path.stat().st_size
        assert hashed[path] <= 3 * PAGE  # the header, and what fills the last page
    for path in {model / name for name in SHARDS} - used.keys():
        assert hashed[path] == path.stat().st_size


def test_a_buffer_is_read_into_again_when_nobody_looks_at_it_any_more(tmp_path):
    (tmp_path / "x").write_bytes(bytes(range(100)))
    first, second = (image_of(tmp_path / "x", offset) for offset in (0, 50))
    shown, looking = [], Future()

    def witness(path, read):
        shown.append((path, [(place, bytes(part)) for place, part in read]))
        return looking

    disk, host = DiskReader(witness), CpuLane().host_buffer(50, pinned=False)
    disk.bring(first, host)
    again = threading.Thread(target=disk.bring, args=(second, host))
    again.start()
    again.join(0.2)
    assert bytes(host.data.tolist()) == bytes(range(50))
    looking.set_result(None)
    again.join(HANGS)
    disk.close()
    assert bytes(host.data.tolist()) == bytes(range(50, 100))
    assert shown == [(tmp_path / "x", [(at, bytes(range(at, at + 50)))]) for at in (0, 50)]


def image_of(path, offset):
    return BlockImage((Piece(path, offset, 50, 0),), (View("x", (50,), torch.uint8, 0),), 50)


# --- in a run ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline(model):
    return Pipeline.load(model, ModelOptions(device="cpu"))


def films(out):
    return out.read_bytes(), out.with_suffix(".png").read_bytes()


@pytest.fixture(scope="module")
def whole(pipeline, tmp_path_factory):
    """The films of an undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "a.mp4"
    list(pipeline.generate(BOARD, out, SMALL))
    return films(out)


@pytest.mark.parametrize(
    ("name", "phase", "saved"),
    [
        ("text_encoder/block-01", "text", 0),
        ("high_noise/block-02", "denoise", 0),
        ("low_noise/rest", "denoise", 2),
        ("vae/diffusion_pytorch_model", "decode", 3),
    ],
)
def test_nothing_made_with_changed_weights_is_kept(
    pipeline, model, whole, tmp_path, monkeypatch, name, phase, saved
):
    """Mended, the run goes on to the bits of one that nobody disturbed. It may be told earlier, never later."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path, out, seen = model / f"{name}.safetensors", tmp_path / "out" / "a.mp4", []
    run = RunFolder.beside(out)
    with flipped(path), pytest.raises(CheckpointError) as caught:
        seen.extend(pipeline.generate(BOARD, out, SMALL, run=run.path))
    assert str(caught.value).startswith(told(path))
    phases = [event.phase for event in seen if isinstance(event, PhaseStarted)]
    order = ["text", "denoise", "load", "decode"]
    assert order.index(phases[-1]) <= order.index(phase)
    assert not any(isinstance(event, FrameDone) for event in seen)
    done = [event.done for event in seen if isinstance(event, StepDone)]
    state = run.state() if run.is_begun else None
    assert (state[0].done if state else 0) == len(done) <= saved
    assert list(tmp_path.glob("cache/prompts/*")) == [] or phase != "text"
    assert not out.exists()
    list(pipeline.generate(BOARD, out, SMALL, run=run.path))
    assert films(out) == whole


def written_again(path, how):
    """Change one byte of a file as somebody might who does not want to be noticed, or does not think of it."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-5000] ^= 1
    if how == "another file":
        (path.parent / "new").write_bytes(content)
        (path.parent / "new").replace(path)
    else:
        with path.open("r+b") as file:
            file.write(content)
    if how == "in place, its time put back":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("how", ["in place", "in place, its time put back", "another file"])
@pytest.mark.parametrize(
    ("name", "after"),
    [("high_noise/block-02", 1), ("vae/diffusion_pytorch_model", 1), ("vae/diffusion_pytorch_model", 3)],
)
def test_weights_that_change_while_a_run_uses_them_are_not_used(pipeline, model, whole, tmp_path, name, after, how):
    """They were hashed before, and were right then."""
    path, out = model / f"{name}.safetensors", tmp_path / "a.mp4"
    kept, run = path.read_bytes(), RunFolder.beside(tmp_path / "a.mp4")

    def disturbed():
        done = 0
        for event in pipeline.generate(BOARD, out, SMALL, run=run.path):
            done += isinstance(event, StepDone)
            if isinstance(event, StepDone if after < 3 else FrameDone) and done == after:
                written_again(path, how)

    try:
        with pytest.raises(CheckpointError, match=f"{path.name}: (was written to|is not what was written)"):
            disturbed()
    finally:
        path.write_bytes(kept)
    assert not out.exists()
    list(pipeline.generate(BOARD, out, SMALL, run=run.path))
    assert films(out) == whole


def test_a_link_to_a_file_is_no_change(model):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    with Audit() as audit:
        audit.settle(path.parent)
        os.link(path, model / "linked")
        try:
            audit.settle(path.parent)
        finally:
            (model / "linked").unlink()


def test_released_files_that_are_written_to_are_noticed(toy_copy):
    folder = open_folder(toy_copy)
    with Audit() as audit:
        audit.settle(folder.high_noise)
        folder.high_noise.write_bytes(folder.high_noise.read_bytes())
        with pytest.raises(CheckpointError, match="was written to while the run used it"):
            audit.settle(folder.high_noise)
