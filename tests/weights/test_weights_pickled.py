"""Pickled weights: never run, and refused when they are anything but tensors."""

import os
import pickle
import shutil
import zipfile

import pytest
import torch
from hypothesis import given, settings, strategies as st
from tensor_files import SAME_BYTES, fingerprint, loaded, loaded_or_refused, refusal, same
from torch import nn

from holo_lite.weights.files import open_weights
from holo_lite.weights.pickled_file import LOCAL_HEADER


@pytest.fixture
def pth(tmp_path):
    def save(content, **options):
        path = tmp_path / "x.pth"
        torch.save(content, path, **options)
        return path

    return save


def test_a_plain_dict_opens_with_its_numbers(pth):
    tensors = {
        "a": torch.randn(5000),
        "b": torch.ones(2, 3, dtype=torch.bfloat16),
        "t": torch.randn(3, 4).T,
        "s": torch.tensor(2.0),
    }
    same(loaded(pth(tensors)), tensors)


def test_parts_of_a_storage_are_read_where_they_lie(pth):
    """Shared, turned, stretched and empty ones: PyTorch stores what they are parts of once."""
    whole = torch.arange(600.0).view(20, 30)
    tensors = {
        "whole": whole,
        "turned": whole.T,
        "every other": whole[3:17:2, ::3],
        "stretched": whole[4:5].expand(7, 30),
        "one": whole[2, 2],
        "none": whole[:0],
        "other": torch.arange(5, dtype=torch.int16),
    }
    path = pth(tensors)
    same(loaded(path), tensors)
    file = open_weights(path)
    for name in ("whole", "turned", "every other", "stretched", "none", "other"):
        assert torch.equal(file.load(name, slice(2, 5)), tensors[name][2:5])


def test_numbers_that_are_the_negatives_of_what_is_stored_are_refused(pth):
    assert refusal(pth({"odd": torch.ones(3, dtype=torch.complex64).conj().imag})).endswith("see 'odd'")


def test_storages_that_are_not_where_the_table_says_are_refused(pth):
    """A record more, as large as a storage and a page from it: either may be the tensor's."""
    path = pth({"a": torch.ones(1024)})
    begin = path.read_bytes().index(torch.ones(1024).numpy().tobytes())
    with zipfile.ZipFile(path, "a") as archive:
        behind = archive.start_dir + len("x/gap") + len("x/data/1") + 2 * LOCAL_HEADER
        archive.writestr("x/gap", bytes((begin - behind) % 4096))
        archive.writestr("x/data/1", bytes(4096))
    said = refusal(path)
    assert said.endswith("its tensors do not lie where its table says; download it again")


def test_parameters_open_as_the_plain_tensors_they_hold(pth):
    path = pth(nn.Linear(3, 2).state_dict() | {"p": nn.Parameter(torch.ones(3))})
    tensor = open_weights(path).load("p")
    assert type(tensor) is torch.Tensor
    assert not tensor.requires_grad


class Runs:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_never_run(pth, tmp_path, legacy):
    target = tmp_path / "was_run"
    refusal(pth({"a": torch.ones(2), "b": Runs(target)}, _use_new_zipfile_serialization=not legacy))
    assert not target.exists()
    (tmp_path / "y.pth").write_bytes(pickle.dumps(Runs(target)))
    refusal(tmp_path / "y.pth")
    assert not target.exists()


NOT_PLAIN = {
    "nested dict": {"model": {"a": torch.ones(2)}},
    "list": [torch.ones(2)],
    "tensor": torch.ones(2),
    "number among tensors": {"a": torch.ones(2), "epoch": 5},
    "names that are numbers": {1: torch.ones(2)},
    "name of two lines": {"a\nb": torch.ones(2)},
    "sparse": {"a": torch.eye(3).to_sparse()},
    "no memory": {"a": torch.empty(3, device="meta")},
}


@pytest.mark.parametrize("case", NOT_PLAIN)
def test_anything_but_a_dict_of_plain_tensors_is_refused(pth, case):
    assert "not a plain dict of tensors" in refusal(pth(NOT_PLAIN[case]))


@pytest.mark.filterwarnings("ignore")
def test_tensors_of_odd_kinds_are_refused_by_name(pth):
    quantized = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    assert refusal(pth({"odd": quantized})).endswith("see 'odd'")
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    assert refusal(pth({"odd": nested})).endswith("see 'odd'")


def test_the_old_format_is_refused(pth):
    refusal(pth({"a": torch.ones(2)}, _use_new_zipfile_serialization=False))


def test_a_pth_cut_short_anywhere_is_noticed(pth):
    path = pth({"a": torch.randn(30), "b": torch.ones(4)})
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert "is cut short" in refusal(path)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_any_changed_byte_of_a_pth_is_refused_or_opens(tmp_path_factory, place, change):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "changed.pth"
    torch.save({"a": torch.arange(3.0), "b": torch.ones(2)}, path)
    torn = bytearray(path.read_bytes())
    torn[int(place * len(torn))] ^= change
    path.write_bytes(torn)
    if loaded_or_refused(path):
        assert fingerprint(path)


def test_a_compressed_pth_is_not_taken_for_its_numbers(pth, tmp_path):
    """Its tensors would be the compressed bytes."""
    path = pth({"a": torch.zeros(3000)})
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "y.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert "was compressed" in refusal(tmp_path / "y.pth")


def test_a_zip_that_holds_no_model(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("hello.txt", "hello")
    refusal(tmp_path / "x.pth")


def test_a_copy_elsewhere_has_the_same_fingerprint(pth, tmp_path):
    path = pth({"a": torch.ones(2)})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copy = shutil.copy(path, elsewhere / "other.pth")
    os.utime(copy, (1, 1))
    assert fingerprint(copy) == fingerprint(path)


def test_name_shape_dtype_and_numbers_are_in_the_fingerprint(pth):
    contents = [*SAME_BYTES, {"a": torch.ones(4)}]
    assert len({fingerprint(pth(content)) for content in contents}) == len(contents)


def deep_key(depth):
    """A dict whose key is a tuple in a tuple in a tuple …"""
    return b"\x80\x02}" + b")" + b"\x85" * depth + b"K\x01s."


def laughs(times):
    """A dict whose key names twice what names twice …: a few bytes, and 2^times tuples to hash."""
    return b"\x80\x02}" + b")q\x00" + b"h\x00h\x00\x86q\x00" * times + b"K\x01s."


@pytest.mark.parametrize(
    "content",
    [
        deep_key(20_000),
        deep_key(200_000),
        laughs(60),
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
        b"\x80\x02}(K\x01K\x02u.",
        b"\x80\x02\x8f.",
        b"\x80\x02h\x07.",
        b"\x80\x02\x85.",
        b"",
    ],
)
def test_a_pickle_that_is_more_than_a_flat_dict_is_refused_at_once(tmp_path, content):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", content)
        archive.writestr("x/version", "3")
    assert "not a plain dict of tensors" in refusal(path)


def test_an_archive_that_names_something_twice_is_refused(pth):
    path = pth({"a": torch.ones(2)})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(next(name for name in archive.namelist() if name.endswith("data.pkl")), b"\x80\x02}.")
    assert "not a plain dict of tensors" in refusal(path)
