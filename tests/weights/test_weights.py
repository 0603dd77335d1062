"""Safetensors: whole files open without being read, damaged ones are refused in one line, by name."""

import json
import math
import os
import shutil
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st
from resident import resident
from safetensors.torch import load_file, save_file
from tensor_files import SAME_BYTES, fingerprint, loaded, loaded_or_refused, refusal, same, write
from whole_models import write_holes

from holo_lite.config import HOLOCINE_14B
from holo_lite.model.load import PREFIXES, check_expert
from holo_lite.weights.files import open_weights
from holo_lite.weights.safetensors_file import DTYPES, SafetensorsFile
from holo_lite.weights.samples import SAMPLE_BYTES, SAMPLES

HERE = Path(__file__).parents[1]
CPU, FP32, BF16 = torch.device("cpu"), torch.float32, torch.bfloat16


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.safetensors"


# Whole files


def tensor_of(dtype, shape, seed):
    size = math.prod(shape) * dtype.itemsize
    raw = torch.randint(
        0,
        2 if dtype == torch.bool else 256,
        (size,),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(seed),
    )
    return raw.view(dtype).view(shape) if size else torch.empty(shape, dtype=dtype)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b.weight", "blöcke.0", "z z", "model.x"]),
        st.tuples(st.sampled_from(list(DTYPES.values())), st.lists(st.integers(0, 4), max_size=4)),
        max_size=5,
    ),
    st.sampled_from([None, {"format": "pt", "note": "two\nlines"}]),
)
def test_whole_files_load_as_safetensors_itself_loads_them(tmp_path_factory, tensors, metadata):
    path = tmp_path_factory.mktemp("whole") / "x.safetensors"
    made = {name: tensor_of(dtype, shape, i) for i, (name, (dtype, shape)) in enumerate(tensors.items())}
    save_file(made, path, metadata=metadata)
    same(loaded(path), load_file(path))
    assert SafetensorsFile(path).metadata == (metadata or {})


@pytest.mark.parametrize("padding", range(8))
def test_data_that_is_not_aligned_loads_all_the_same(path, padding):
    expected = torch.arange(6, dtype=FP32)
    header = json.dumps({"a": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}).encode()
    write(path, header + b" " * padding, expected.numpy().tobytes())
    assert torch.equal(loaded(path)["a"] + 0, expected)
    assert torch.equal(loaded(path)["a"].view(2, 3) @ torch.ones(3), torch.tensor([3.0, 12.0]))


def test_writing_to_a_tensor_never_reaches_the_disk(path):
    save_file({"a": torch.ones(5000), "b": torch.zeros(3)}, path)
    before = path.read_bytes()
    tensor = open_weights(path).load("a")
    tensor.add_(1)
    assert path.read_bytes() == before
    assert torch.equal(open_weights(path).load("a"), torch.ones(5000))


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A file as long as a released expert, 28.6 GB of zeros that take no room on the disk, and a prefix."""
    shapes = json.loads((HERE / "checkpoints" / "dit_14b.json").read_text())
    path = tmp_path_factory.mktemp("released") / "sparse_high_noise.safetensors"
    write_holes(path, {PREFIXES[0] + name: tuple(shape) for name, shape in shapes.items()})
    yield path
    path.unlink()


def test_an_expert_larger_than_the_memory_opens_without_reading_it(released):
    """Whoever maps it asks the system to set its size aside, and is refused where memory is smaller than it."""
    before = sum(resident())
    assert check_expert(released) == HOLOCINE_14B
    file = open_weights(released)
    assert file.fingerprint
    assert sum(entry.nbytes for entry in file.entries.values()) > 28e9
    first, *_, last = file.entries
    assert file.load(first).count_nonzero() == file.load(last).count_nonzero() == 0
    assert sum(resident()) - before < 100e6


# Damaged files


@pytest.fixture
def good(path):
    tensors = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(3, dtype=BF16), "c": torch.tensor(1.5)}
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def test_a_download_cut_short_anywhere_is_noticed(good):
    whole = good.read_bytes()
    for length in range(len(whole)):
        good.write_bytes(whole[:length])
        message = refusal(good)
        assert "is cut short" in message if length >= 8 else "is not a safetensors file" in message


def test_a_cut_within_the_data_names_a_tensor_that_is_lost(good):
    good.write_bytes(good.read_bytes()[:-1])
    message = refusal(good)
    assert "is cut short: tensor b ends at byte" in message or "is cut short: tensor a.weight ends" in message


def test_any_flipped_bit_of_the_header_is_refused_or_harmless(good):
    whole = good.read_bytes()
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    opened = 0
    for place in range(end):
        for bit in range(8):
            torn = bytearray(whole)
            torn[place] ^= 1 << bit
            good.write_bytes(torn)
            if tensors := loaded_or_refused(good):
                opened += 1
                same(tensors, load_file(good))
    assert opened < 0.1 * 8 * end


A = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
B = {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}
EIGHT, SIXTEEN = bytes(8), bytes(16)
TORN = {
    "offsets beyond the file": ({"a": A, "b": B | {"data_offsets": [16, 24]}}, SIXTEEN, "cut short: tensor b"),
    "overlap": ({"a": A, "b": B | {"data_offsets": [4, 12]}}, SIXTEEN, "tensor b does not begin"),
    "same place twice": ({"a": A, "b": A}, EIGHT, "tensor b does not begin"),
    "hole": ({"a": A, "b": B | {"data_offsets": [12, 20]}}, bytes(20), "tensor b does not begin"),
    "hole in front": ({"a": B}, SIXTEEN, "tensor a does not begin"),
    "bytes behind": ({"a": A}, bytes(9), "1 bytes follow"),
    "bytes without tensors": ({}, EIGHT, "8 bytes follow"),
    "size against shape": ({"a": A | {"shape": [3]}}, EIGHT, "size of tensor a contradicts"),
    "size against dtype": ({"a": A | {"dtype": "F64"}}, EIGHT, "size of tensor a contradicts"),
    "offsets reversed": ({"a": A | {"data_offsets": [8, 0]}}, EIGHT, "size of tensor a contradicts"),
    "unknown dtype": ({"a": A | {"dtype": "F4"}}, EIGHT, "tensor a has the unknown dtype 'F4'"),
    "dtype of two lines": ({"a": A | {"dtype": "F\n4"}}, EIGHT, "tensor a has the unknown dtype"),
    "dtype a list": ({"a": A | {"dtype": ["F32"]}}, EIGHT, "tensor a has the unknown dtype"),
    "dtype missing": ({"a": {"shape": [2], "data_offsets": [0, 8]}}, EIGHT, "tensor a has the unknown dtype"),
    "shape missing": ({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, EIGHT, "entry of tensor a"),
    "shape negative": ({"a": A | {"shape": [-2]}}, EIGHT, "entry of tensor a"),
    "two negative sizes": ({"a": A | {"shape": [-1, -2]}}, EIGHT, "entry of tensor a"),
    "shape of floats": ({"a": A | {"shape": [2.0]}}, EIGHT, "entry of tensor a"),
    "shape of truths": ({"a": A | {"shape": [True, 2]}}, EIGHT, "entry of tensor a"),
    "shape a number": ({"a": A | {"shape": 2}}, EIGHT, "entry of tensor a"),
    "size beyond 64 bits": ({"a": A | {"shape": [0, 2**63], "data_offsets": [0, 0]}}, b"", "entry of tensor a"),
    "sizes that overflow": ({"a": A | {"shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}}, b"", "tensor a"),
    "three offsets": ({"a": A | {"data_offsets": [0, 4, 8]}}, EIGHT, "entry of tensor a"),
    "offsets missing": ({"a": {"dtype": "F32", "shape": [2]}}, EIGHT, "entry of tensor a"),
    "empty tensor outside": ({"a": A | {"shape": [0], "data_offsets": [64, 64]}}, b"", "cut short: tensor a"),
    "empty tensor inside": ({"a": A, "b": B | {"shape": [0], "data_offsets": [4, 4]}}, EIGHT, "does not begin"),
    "entry no table": ({"a": [1]}, b"", "header is damaged"),
    "metadata no table": ({"__metadata__": 5, "a": A}, EIGHT, "header is damaged"),
    "no table": (b"[1, 2]", b"", "header is damaged"),
    "not JSON": (b"{'a': 1}", b"", "header is damaged"),
    "not UTF-8": (b'{"\xff": 1}', b"", "header is damaged"),
    "UTF-16": ('{"a": {}}'.encode("utf-16"), b"", "header is damaged"),
    "byte order mark": (b"\xef\xbb\xbf{}", b"", "header is damaged"),
    "nested beyond all depth": (b'{"a":' + b"[" * 200_000, b"", "header is damaged"),
    "number of 5000 digits": (b'{"a":{"shape":[' + b"9" * 5000 + b"]}}", b"", "header is damaged"),
    "name twice": (f'{{"a": {json.dumps(A)}, "a": {json.dumps(A)}}}'.encode(), EIGHT, "'a' comes twice"),
    "dtype twice": (b'{"a": {"dtype": "F32", "dtype": "F64"}}', EIGHT, "'dtype' comes twice"),
    "name of two lines": ({"a\nb": A}, EIGHT, "cannot be printed"),
    "name that is no text": (b'{"\\ud800": {}}', b"", "cannot be printed"),
}


@pytest.mark.parametrize("case", TORN)
def test_a_header_that_contradicts_itself_or_the_file(path, case):
    header, data, said = TORN[case]
    assert said in refusal(write(path, header, data))


@pytest.mark.parametrize("length", [0, 1, 100_000_001, 2**32, 2**63, 2**64 - 1])
def test_a_header_of_absurd_length_is_not_read(path, length):
    path.write_bytes(struct.pack("<Q", length) + b"{}" * 50)
    assert "is not a safetensors file" in refusal(path)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"<html>not found</html>", b"version https://git-lfs.github.com"]
)
def test_what_a_failed_download_leaves_behind(path, content):
    path.write_bytes(content)
    assert "download" in refusal(path)


def test_nothing_a_folder_or_another_kind_of_file(tmp_path):
    assert "no such file" in refusal(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").mkdir()
    refusal(tmp_path / "b.safetensors")
    (tmp_path / "c.ckpt").write_bytes(b"x")
    assert "unknown kind of weight file" in refusal(tmp_path / "c.ckpt")
    assert "cannot be read" in refusal(tmp_path / "d", SafetensorsFile)


# Fingerprints


def test_a_copy_elsewhere_has_the_same_fingerprint(good, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copy = shutil.copy(good, elsewhere / "other.safetensors")
    os.utime(copy, (1, 1))
    assert fingerprint(copy) == fingerprint(good)


def test_any_byte_of_a_small_file_changes_its_fingerprint(good):
    whole, before = good.read_bytes(), fingerprint(good)
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    for place in range(start, len(whole)):
        good.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert fingerprint(good) != before


def test_the_first_the_last_and_a_byte_between_change_the_fingerprint_of_a_large_file(path):
    tensor = torch.zeros(4_000_000, dtype=torch.uint8)
    prints = set()
    seventh = (len(tensor) - SAMPLE_BYTES) * 7 // (SAMPLES - 1)
    for place in (None, 0, seventh + 1000, len(tensor) - 1):
        changed = tensor.clone()
        if place is not None:
            changed[place] = 1
        save_file({"a": changed}, path)
        prints.add(fingerprint(path))
    assert len(prints) == 4


def test_a_name_deep_in_a_long_header_changes_the_fingerprint(path):
    """The samples of a large file may all miss it."""
    prints = set()
    for name in ("t", "s"):
        shapes = {f"t{i}": (1,) for i in range(2000)} | {f"{name}2000": (1,)} | {f"u{i}": (1,) for i in range(500)}
        write_holes(path, shapes | {"z": (50_000_000,)})
        prints.add(fingerprint(path))
    assert len(prints) == 2


def test_name_shape_and_dtype_are_in_the_fingerprint(path):
    prints = set()
    for content in SAME_BYTES:
        save_file(content, path)
        prints.add(fingerprint(path))
    assert len(prints) == len(SAME_BYTES)
