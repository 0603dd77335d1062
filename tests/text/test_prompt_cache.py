"""Encoded prompts on disk: found again, distrusted when damaged, never a reason to fail."""

import logging
import os
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import save_file

from holo_lite.errors import CheckpointError
from holo_lite.system.cache_folder import cache_folder
from holo_lite.text.cache import PromptCache, cache_key, encode_prompts, encoder_identity
from holo_lite.text.windows import Prompt

KEY = "0" * 64


class StandIn:
    """An encoder that turns each id into a row, and counts."""

    def __init__(self):
        self.encoded = []

    def close(self):
        self.closed = True

    def encode(self, ids):
        self.encoded.append(tuple(ids))
        return torch.tensor(ids, dtype=torch.float32)[:, None].repeat(1, 4)


def prompt(*ids, text="a fox"):
    return Prompt(text, ids, None, 1)


def encode(prompts, load, folder):
    return encode_prompts(prompts, load, PromptCache(folder), identity="encoder", dtype=torch.float32)


def refuse():
    raise AssertionError("the encoder was loaded")


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# --- the second run --------------------------------------------------------------------------------------


def test_a_second_run_never_loads_the_encoder(tmp_path):
    prompts = [prompt(5, 6, 1), prompt(1, text="")]
    first = encode(prompts, StandIn, tmp_path)
    second = encode(prompts, refuse, tmp_path)
    assert [rows.tolist() for rows in first] == [rows.tolist() for rows in second]
    assert first[0].shape == (3, 4)


def test_the_encoder_is_loaded_once_and_encodes_only_what_is_missing(tmp_path):
    encode([prompt(5, 1)], StandIn, tmp_path)
    loaded = []

    def load():
        loaded.append(StandIn())
        return loaded[-1]

    rows = encode([prompt(6, 1), prompt(5, 1), prompt(7, 1), prompt(6, 1)], load, tmp_path)
    assert [encoder.encoded for encoder in loaded] == [[(6, 1), (7, 1)]]
    assert loaded[0].closed, "a streaming encoder holds threads and pinned memory until it is closed"
    assert [int(row[0, 0]) for row in rows] == [6, 5, 7, 6]


# --- entries ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_come_back_bit_for_bit(tmp_path, dtype):
    rows = torch.randn(7, 16).to(dtype)
    PromptCache(tmp_path / "new" / "folder").put(KEY, rows)
    back = PromptCache(tmp_path / "new" / "folder").get(KEY)
    assert back.dtype == dtype
    assert torch.equal(back, rows)


def test_an_unknown_key_is_no_warning(tmp_path, caplog):
    assert PromptCache(tmp_path / "none").get(KEY) is None
    assert warnings(caplog) == []


def torn(path):
    path.write_bytes(path.read_bytes()[:-5])


def emptied(path):
    path.write_bytes(b"")


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


def of_another_kind(path):
    save_file({"other": torch.ones(2)}, path)


def without_checksum(path):
    save_file({"rows": torch.tensor(2.0)}, path)


def replaced_by_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [torn, emptied, flipped, of_another_kind, without_checksum])
def test_a_damaged_entry_is_warned_of_and_made_anew(tmp_path, caplog, damage):
    good = encode([prompt(5, 6, 1)], StandIn, tmp_path)
    (entry,) = tmp_path.iterdir()
    damage(entry)
    again = encode([prompt(5, 6, 1)], StandIn, tmp_path)
    assert torch.equal(again[0], good[0])
    assert len(warnings(caplog)) == 1
    assert entry.name in warnings(caplog)[0]
    encode([prompt(5, 6, 1)], refuse, tmp_path)


def test_an_entry_that_cannot_be_read_or_replaced_does_not_end_the_run(tmp_path, caplog):
    good = encode([prompt(5, 6, 1)], StandIn, tmp_path)
    (entry,) = tmp_path.iterdir()
    replaced_by_a_folder(entry)
    assert torch.equal(encode([prompt(5, 6, 1)], StandIn, tmp_path)[0], good[0])
    assert len(warnings(caplog)) == 2
    assert list(tmp_path.iterdir()) == [entry]


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    rows = encode([prompt(5, 1)], StandIn, tmp_path / "file" / "cache")
    assert rows[0].shape == (2, 4)
    assert "the encoded prompt cannot be cached" in warnings(caplog)[-1]
    given = [value for record in caplog.records for value in record.args]
    assert not any(isinstance(value, BaseException) for value in given), "a kept record would keep its frames"


def test_a_write_that_fails_half_way_leaves_nothing_behind(tmp_path, caplog, monkeypatch):
    full = Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr("holo_lite.system.whole_files.os.replace", full)
    PromptCache(tmp_path).put(KEY, torch.ones(2, 2))
    assert list(tmp_path.iterdir()) == []
    assert "No space left" in warnings(caplog)[0]


# --- the key ---------------------------------------------------------------------------------------------


def test_the_key_tells_prompt_encoder_and_dtype_apart():
    keys = {
        cache_key(prompt(5, 1), "encoder", torch.float32),
        cache_key(prompt(6, 1), "encoder", torch.float32),
        cache_key(prompt(5, 1, text="a cat"), "encoder", torch.float32),
        cache_key(prompt(5, 1), "another", torch.float32),
        cache_key(prompt(5, 1), "encoder", torch.bfloat16),
    }
    assert len(keys) == 5
    assert cache_key(prompt(5, 1), "encoder", torch.float32) in keys


def keep_time(path, change):
    """Make a change that the file's own time does not show."""
    stat = path.stat()
    change()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def write_safetensors(folder, name="shared.weight", columns=4, value=0.0):
    save_file({name: torch.full((2, columns), value)}, folder / "umt5.safetensors")
    return folder / "umt5.safetensors"


def write_pth(folder, value=0.0):
    torch.save({"shared.weight": torch.full((2, 4), value)}, folder / "umt5.pth")
    return folder / "umt5.pth"


def write_shards(folder):
    save_file({"shared.weight": torch.zeros(2, 4)}, folder / "model-1.safetensors")
    save_file({"b": torch.zeros(2)}, folder / "model-2.safetensors")
    index = '{"weight_map": {"shared.weight": "model-1.safetensors", "b": "model-2.safetensors"}}'
    (folder / "model.safetensors.index.json").write_text(index)
    return folder


@pytest.mark.parametrize("write", [write_safetensors, write_pth, write_shards])
def test_the_identity_is_the_same_for_an_untouched_encoder(tmp_path, write):
    path = write(tmp_path)
    assert encoder_identity(path) == encoder_identity(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: os.utime(folder / "umt5.safetensors", ns=(1, 1)),
        lambda folder: keep_time(folder / "umt5.safetensors", lambda: write_safetensors(folder, columns=8)),
        lambda folder: keep_time(folder / "umt5.safetensors", lambda: write_safetensors(folder, "derahs.weight")),
    ],
    ids=["time", "size", "header"],
)
def test_the_identity_changes_with_a_safetensors_files_time_size_and_header(tmp_path, change):
    path = write_safetensors(tmp_path)
    before = encoder_identity(path)
    change(tmp_path)
    assert encoder_identity(path) != before


def test_the_identity_changes_with_the_directory_of_a_pth(tmp_path):
    path = write_pth(tmp_path)
    before, size = encoder_identity(path), path.stat().st_size
    keep_time(path, lambda: write_pth(tmp_path, value=1.0))
    assert path.stat().st_size == size
    assert encoder_identity(path) != before


@pytest.mark.parametrize("shard", ["model-1.safetensors", "model-2.safetensors"])
def test_the_identity_of_a_folder_changes_with_every_shard(tmp_path, shard):
    folder = write_shards(tmp_path)
    before = encoder_identity(folder)
    os.utime(folder / shard, ns=(1, 1))
    assert encoder_identity(folder) != before
    assert encoder_identity(folder) == encoder_identity(folder / "model.safetensors.index.json")


def test_an_encoder_that_is_not_there_has_no_identity(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        encoder_identity(tmp_path / "umt5.pth")


# --- its place -------------------------------------------------------------------------------------------


def test_the_cache_lies_where_the_person_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOLO_LITE_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("HOLO_LITE_CACHE")
    assert cache_folder().name == "holo-lite"
