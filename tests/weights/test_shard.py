"""A shard is a safetensors file for everyone, with its tensors where a block wants them, and whole or not there."""

import errno
import hashlib
import json
import os
import struct
import subprocess
from pathlib import Path

import pytest
import torch
from dying import Dying
from hypothesis import given, settings, strategies as st
from safetensors import safe_open

from holo_lite.errors import OutputError
from holo_lite.system.outputs import write_output
from holo_lite.weights import shard as shard_module
from holo_lite.weights.safetensors_file import DTYPES, SafetensorsFile
from holo_lite.weights.shard import ShardWriter, TensorSpec, lay_out

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8).filter(
    lambda name: not name.startswith(("filler.", "__"))
)
SHAPES = st.lists(st.integers(0, 9), max_size=3).map(tuple)
SPECS = st.lists(
    st.builds(TensorSpec, NAMES, SHAPES, st.sampled_from(sorted(DTYPES.values(), key=str))),
    max_size=8,
    unique_by=lambda spec: spec.name,
)
WEIGHT = TensorSpec("w", (64, 64), torch.float32)
ALL_IN_IT = {"w": torch.arange(4096.0).view(64, 64)}


def tensor_of(spec, seed):
    raw = torch.randint(0, 2, (spec.nbytes,), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return raw.view(spec.dtype).view(spec.shape)  # bytes of 0 and 1 are numbers in every dtype, and none is NaN


def written(path, specs):
    tensors = {spec.name: tensor_of(spec, seed) for seed, spec in enumerate(specs)}
    with ShardWriter(path, specs) as writer:
        for tensor in tensors.values():
            writer.add(tensor)
    return tensors, writer


def header_of(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), 8 + length


@settings(deadline=None, max_examples=150)
@given(SPECS)
def test_any_reader_opens_it_and_everything_is_where_it_should_be(tmp_path_factory, specs):
    path = tmp_path_factory.mktemp("shards") / "a.safetensors"
    tensors, writer = written(path, specs)
    header, start = header_of(path)
    size = path.stat().st_size
    assert (size, start % 4096, size % 4096) == (writer.layout.nbytes, 0, 0)
    assert writer.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [name for name in header if not name.startswith("filler.")] == [spec.name for spec in specs]
    place = start
    for name, entry in header.items():  # in order, and without a hole
        first, end = (start + offset for offset in entry["data_offsets"])
        assert first == place
        assert name.startswith("filler.") or first % 256 == 0
        assert not name.startswith("filler.") or entry["dtype"] == "U8"
        place = end
    assert place == size
    ours = SafetensorsFile(path)
    assert set(ours.entries) == set(tensors)
    with safe_open(path, "pt") as theirs:
        for name, tensor in tensors.items():
            for found in (theirs.get_tensor(name), ours.load(name)):
                assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
                assert torch.equal(found.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_the_layout_is_known_before_the_data(tmp_path):
    specs = [WEIGHT, TensorSpec("b", (3,), torch.bfloat16)]
    layout = lay_out(specs)
    written(tmp_path / "a.safetensors", specs)
    assert (tmp_path / "a.safetensors").read_bytes().startswith(layout.header)
    assert (tmp_path / "a.safetensors").stat().st_size == layout.nbytes


def test_a_tensor_may_come_in_slices_of_rows_and_is_cast(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_module, "PIECE", 100)
    whole = torch.randn(10, 7)
    spec = TensorSpec("v", (10, 7), torch.bfloat16)
    with ShardWriter(tmp_path / "a", [spec, WEIGHT]) as writer:
        for rows in whole.split(3):
            writer.add(rows)
        writer.add(ALL_IN_IT["w"].t())  # not contiguous
    file = SafetensorsFile(tmp_path / "a")
    assert torch.equal(file.load("v"), whole.bfloat16())
    assert torch.equal(file.load("w"), ALL_IN_IT["w"].t())


@pytest.mark.parametrize("names", [("w", "w"), ("filler.0",), ("__metadata__",)])
def test_names_that_would_mean_something_else_are_our_mistake(names):
    with pytest.raises(AssertionError):
        lay_out([TensorSpec(name, (1,), torch.uint8) for name in names])


@pytest.mark.parametrize(
    "wrong",
    [lambda w: w.add(torch.zeros(64, 63)), lambda w: w.add(torch.zeros(65, 64)), lambda _: None],
    ids=["width", "height", "missing"],
)
def test_a_tensor_that_is_not_the_layouts_leaves_no_file(tmp_path, wrong):
    with pytest.raises(AssertionError), ShardWriter(tmp_path / "a", [WEIGHT]) as writer:
        wrong(writer)
    assert list(tmp_path.iterdir()) == []


def stopped(path, error):
    with ShardWriter(path, [WEIGHT, TensorSpec("b", (1,), torch.int8)]) as writer:
        writer.add(ALL_IN_IT["w"])
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_whatever_interrupts_it_nothing_is_left(tmp_path, error):
    with pytest.raises(error):
        stopped(tmp_path / "new" / "a", error)
    assert list((tmp_path / "new").iterdir()) == []


def test_interrupted_while_it_is_opened_nothing_is_left(tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "open", interrupt)
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path / "a", [WEIGHT]):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_stood_there_stays_until_the_new_one_is_whole(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(ValueError, match="stop"):
        stopped(tmp_path / "a", ValueError("stop"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}
    written(tmp_path / "a", [WEIGHT])
    assert torch.equal(SafetensorsFile(tmp_path / "a").load("w"), tensor_of(WEIGHT, 0))


class Disk:
    """A disk that takes so many writes, then fails; a write may be cut short as the system's may."""

    def __init__(self, monkeypatch, writes=10**9, code=errno.ENOSPC):
        self.left, self.code = writes, code
        self.open = Path.open
        monkeypatch.setattr(Path, "open", lambda *path, **options: Dying(self.open(*path, **options), self))

    def use(self):
        self.left -= 1
        if self.left < 0:
            raise OSError(self.code, os.strerror(self.code))

    def write(self, file, data):
        self.use()
        return file.write(data[: max(1, len(data) // 2)] if self.left % 2 else data)


@pytest.mark.parametrize("writes", range(3))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, writes, code):
    Disk(monkeypatch, writes, code)
    with pytest.raises(OutputError) as caught, ShardWriter(tmp_path / "a", [WEIGHT]) as writer:
        writer.add(ALL_IN_IT["w"])
    said = "the disk is full; free some space and type the same command again"
    if code == errno.EIO:
        said = "cannot be written (Input/output error); choose another place"
    assert str(caught.value) == f"{tmp_path / 'a'}: {said}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failing_at_the_very_end_leaves_nothing(tmp_path, monkeypatch, call):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OutputError, match="the disk is full"), ShardWriter(tmp_path / "a", [WEIGHT]) as writer:
        writer.add(ALL_IN_IT["w"])
    with pytest.raises(OutputError, match="the disk is full"):
        write_output(tmp_path / "b", b"all of it")
    assert list(tmp_path.iterdir()) == []


def test_writes_cut_short_by_the_system_are_gone_on_with(tmp_path, monkeypatch):
    Disk(monkeypatch)
    tensors, writer = written(tmp_path / "a", [WEIGHT])
    monkeypatch.undo()
    assert hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest() == writer.sha256
    assert torch.equal(SafetensorsFile(tmp_path / "a").load("w"), tensors["w"])


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB, where this process may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounts a small disk: run as root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_on_a_disk_that_is_really_full(small_disk):
    (small_disk / "kept").write_text("kept")
    (small_disk / "other").write_bytes(bytes(48 * 1024))
    with pytest.raises(OutputError, match="the disk is full"):
        written(small_disk / "a", [WEIGHT])
    assert {path.name for path in small_disk.iterdir()} == {"kept", "other"}
    with pytest.raises(OutputError, match="the disk is full"):
        write_output(small_disk / "b", bytes(32 * 1024))
    (small_disk / "other").unlink()
    written(small_disk / "a", [WEIGHT])
    assert {path.name for path in small_disk.iterdir()} == {"kept", "a"}


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file/a: cannot be written"):
        written(tmp_path / "file" / "a", [WEIGHT])
    with pytest.raises(OutputError, match="cannot be written"):
        write_output(tmp_path / "file" / "a", b"")
