"""Shards behind an index: one file, and no way out of its folder."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from tensor_files import fingerprint, loaded, refusal, same

from holo_lite.errors import CheckpointError
from holo_lite.weights.files import open_weights


@pytest.fixture
def shards(tmp_path):
    tensors = {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.bfloat16), "c": torch.zeros(())}
    save_file({name: tensors[name] for name in "ab"}, tmp_path / "x-1.safetensors")
    save_file({"c": tensors["c"]}, tmp_path / "x-2.safetensors")

    def index(weight_map):
        path = tmp_path / "x.safetensors.index.json"
        path.write_text(weight_map if isinstance(weight_map, str) else json.dumps({"weight_map": weight_map}))
        return path

    return tensors, index


WHOLE = {"a": "x-1.safetensors", "b": "x-1.safetensors", "c": "x-2.safetensors"}


def test_shards_behind_an_index_are_one_file(shards):
    tensors, index = shards
    path = index(WHOLE)
    same(loaded(path), tensors)


def test_an_index_whose_shard_or_tensor_is_missing(shards):
    _, index = shards
    path = index(WHOLE | {"c": "x-3.safetensors"})
    with pytest.raises(CheckpointError, match=r"x-3\.safetensors: cannot be read"):
        open_weights(path)
    assert refusal(index(WHOLE | {"d": "x-2.safetensors"})).endswith("do not hold: d")
    lost = {f"t{i}": "x-2.safetensors" for i in range(9)}
    assert refusal(index(WHOLE | lost)).endswith("do not hold: t0, t1, t2 and 6 more")


def test_a_torn_shard_is_named_itself(shards):
    path = shards[1](WHOLE)
    shard = path.parent / "x-2.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"x-2\.safetensors: is cut short: tensor c"):
        open_weights(path)


ELSEWHERE = [
    "../x.safetensors",
    "/etc/passwd",
    "/x-1.safetensors",
    "sub/x-1.safetensors",
    "..\\x.safetensors",
    "C:x.safetensors",
    "..",
    ".",
    "",
    "x\0.safetensors",
    "\ud800.safetensors",
    "x\n.safetensors",
    "x-1.pth",
    "x.safetensors.index.json",
    5,
    None,
    ["x"],
]


@pytest.mark.parametrize("shard", ELSEWHERE, ids=ascii)
def test_an_index_cannot_send_us_out_of_its_folder(shards, tmp_path, shard):
    _, index = shards
    outside = tmp_path.parent / "x.safetensors"
    shutil.copy(tmp_path / "x-2.safetensors", outside)
    said = "half of a character" if shard == "\ud800.safetensors" else "not a file next to it"
    assert said in refusal(index(WHOLE | {"c": shard}))
    outside.unlink()


NO_INDEX = {
    "empty": "",
    "torn": "{",
    "list": "[]",
    "number": "5",
    "null": "null",
    "no weight_map": "{}",
    "weight_map a number": '{"weight_map": 5}',
    "weight_map a list": '{"weight_map": ["a"]}',
    "name of two lines": '{"weight_map": {"a\\nb": "x-1.safetensors"}}',
    "nested beyond all depth": "[" * 100_000,
}


@pytest.mark.parametrize("text", NO_INDEX.values(), ids=NO_INDEX)
def test_an_index_that_is_none(shards, text):
    refusal(shards[1](text))


def test_an_index_of_bytes_that_are_no_text(shards):
    path = shards[1]("")
    path.write_bytes(b"\xff\xfe\x00{")
    refusal(path)


def test_every_shard_is_in_the_fingerprint(shards):
    path = shards[1](WHOLE)
    before = fingerprint(path)
    save_file({"c": torch.ones(())}, path.parent / "x-2.safetensors")
    assert fingerprint(path) != before
