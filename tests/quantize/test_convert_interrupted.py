"""Killed at any moment, the same command goes on, does no finished work twice, and ends with the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path

import pytest
import torch
from conversions import contents, convert, copied, notes, plan, write_source
from dying import changes, in_child, killed
from own_process import own_process

from holo_lite.errors import CheckpointError, OutputError
from holo_lite.progress import PhaseAdvanced, PhaseStarted
from holo_lite.weights.manifest import FILE_NAME, JOURNAL as JOURNAL_NAME
from quantize import convert as convert_module, inputs, job
from quantize.convert import LOCK

ROOT = Path(__file__).parents[2]
SMALL: tuple[str, ...] = ("text_encoder",)
SHARDS = 3  # of the text encoder: the rest and two blocks


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("interrupted") / "source")


@pytest.fixture(scope="module")
def whole(source):
    """Every file of an undisturbed conversion."""
    convert(source, source.parent / "whole")
    return contents(source.parent / "whole")


@pytest.fixture(scope="module")
def small(source):
    """The same of the text encoder alone."""
    convert(source, source.parent / "small", roles=SMALL)
    return contents(source.parent / "small")


def go_on(source, out, roles):
    """Type the command again; give the shards it wrote, and its notes."""
    events = convert(source, out, roles=roles)
    phase, wrote = "", []
    for event in events:
        phase = event.phase if isinstance(event, PhaseStarted) else phase
        if isinstance(event, PhaseAdvanced) and phase == "convert":
            wrote.append(event.detail)
    return wrote, notes(events)


def standing(out):
    return {name for name in contents(out) if name.endswith(".safetensors")} if out.exists() else set()


def lines(out):
    """The journal, without a line that a kill tore."""
    path = out / JOURNAL_NAME
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


def journalled(out):
    return {line["shard"]["file"] for line in lines(out) if "shard" in line}


def test_killed_at_every_call_that_changes_the_disk(source, small, tmp_path):
    """Every fsync, rename, removal and folder; of the writes every seventh, which a crash may tear."""
    kinds = changes(lambda: convert(source, tmp_path / "counted", roles=SMALL))
    points = [(index, "before") for index, kind in enumerate(kinds) if kind != "write"]
    points += [(index, "midway") for index, kind in enumerate(kinds) if kind == "write"][::7]
    points += [(len(kinds) - 1, "behind")]
    assert len(points) > 40
    for call, when in points:
        out = tmp_path / f"{call}-{when}"
        assert killed(partial(convert, source, out, roles=SMALL), call, when)
        if (out / FILE_NAME).exists() and not (out / JOURNAL_NAME).exists():
            assert {name: found for name, found in contents(out).items() if name != LOCK} == small
            continue
        stood, known = standing(out), journalled(out)
        assert all(contents(out)[name] == small[name] for name in stood), "half of a file has its final name"
        wrote, _ = go_on(source, out, SMALL)
        assert set(wrote).isdisjoint(known)
        assert len(stood & set(wrote)) <= 1, "a finished shard was made again"
        assert contents(out) == small, (call, when)


def test_a_source_that_is_cut_short_meanwhile_is_one_line_and_costs_one_file(tmp_path):
    """Of every kind of file, by the command itself: in another process, which may not end."""
    own_process("cut_while_converted.py", FOLDER=str(tmp_path))


@pytest.mark.parametrize("how", ["in place", "replaced"])
def test_what_is_read_of_a_source_that_is_written_to_meanwhile_is_not_kept(
    source, small, tmp_path, monkeypatch, how
):
    own = copied(source, tmp_path / "own")
    path, write = own / "models_t5_umt5-xxl-enc-bf16.pth", convert_module.write_shard

    def written_to(conversion, component, shard, cancel):
        record = write(conversion, component, shard, cancel)
        if shard.file.endswith("block-00.safetensors"):
            content = path.read_bytes()
            if how == "replaced":
                path.unlink()
            path.write_bytes(content)
        return record

    monkeypatch.setattr(convert_module, "write_shard", written_to)
    with pytest.raises(CheckpointError, match=rf"^{path}: was written to while the run used it"):
        convert(own, tmp_path / "out", roles=SMALL)
    assert journalled(tmp_path / "out") == {"text_encoder/rest.safetensors"}
    monkeypatch.undo()
    wrote, _ = go_on(own, tmp_path / "out", SMALL)
    assert wrote == ["text_encoder/block-00.safetensors", "text_encoder/block-01.safetensors"]
    assert contents(tmp_path / "out") == small


def test_two_processes_do_not_convert_into_one_folder(source, small, tmp_path):
    events = job.run_conversion(plan(source, tmp_path / "out", roles=SMALL))
    begun = [next(events) for _ in range(3)]
    stood = contents(tmp_path / "out")
    refused = rf"^{tmp_path}/out: another process is converting into it; wait for it, or stop it$"
    with pytest.raises(OutputError, match=refused):
        convert(source, tmp_path / "out", roles=SMALL)
    assert contents(tmp_path / "out") == stood
    assert begun + list(events)
    assert contents(tmp_path / "out") == small


def test_the_lock_of_a_killed_process_locks_nothing(source, small, tmp_path):
    def killed_within():
        events = job.run_conversion(plan(source, tmp_path / "out", roles=SMALL))
        next(events)
        os.kill(os.getpid(), signal.SIGKILL)

    assert os.WTERMSIG(in_child(killed_within)) == signal.SIGKILL
    assert (tmp_path / "out" / "lock").exists()
    convert(source, tmp_path / "out", roles=SMALL)
    assert contents(tmp_path / "out") == small


def test_kill_9_at_random_moments_again_and_again(source, whole, tmp_path):
    chance = random.Random(3)
    out, kills = tmp_path / "out", 0
    while True:
        child = os.fork()
        if not child:
            try:
                convert(source, out)
            finally:
                os._exit(0)
        time.sleep(chance.uniform(0.01, 0.25))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            break
        kills += 1
        for name in standing(out):
            assert contents(out)[name] == whole[name]
        if kills == 15:
            wrote, _ = go_on(source, out, inputs.ROLES)
            assert len(wrote) < 12
            break
    assert kills
    assert contents(out) == whole


def test_the_command_killed_goes_on_to_the_same_bytes(source, whole, tmp_path):
    """A process of its own, as people run it."""
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "cli.py"), "quantize", str(source), str(out), "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while len(lines(out)) < 4 and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    kept = journalled(out)
    assert 3 <= len(kept) < 12
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"note: continuing: {len(kept)} of 10 files are finished" in done.stderr
    assert contents(out) == whole


def cut_off(source, out, count=2, roles=SMALL):
    """Leave a conversion after `count` shards, as a kill would."""
    events = convert_module.convert(plan(source, out, roles=roles))
    assert isinstance(events, Generator)
    for _ in range(count + 1):
        next(events)
    events.close()
    assert len(journalled(out)) == count


def test_what_was_finished_is_not_made_again(source, small, tmp_path):
    cut_off(source, tmp_path / "out")
    kept = journalled(tmp_path / "out")
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in kept}
    wrote, said = go_on(source, tmp_path / "out", SMALL)
    assert len(wrote) == SHARDS - 2
    assert said == [f"continuing: 2 of {SHARDS} files are finished"]
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in kept} == times
    assert contents(tmp_path / "out") == small


@pytest.mark.parametrize("harm", ["byte", "cut", "gone", "longer"])
def test_a_finished_shard_that_changed_is_noticed_and_made_again(source, small, tmp_path, harm):
    out = tmp_path / "out"
    cut_off(source, out)
    path = out / sorted(journalled(out))[0]
    content = bytearray(path.read_bytes())
    if harm == "byte":
        content[5000] ^= 1
    path.write_bytes(content[:-1] if harm == "cut" else content + b"\0" if harm == "longer" else content)
    if harm == "gone":
        path.unlink()
    wrote, said = go_on(source, out, SMALL)
    name = str(path.relative_to(out))
    assert said[0] == f"{name} changed since it was written; writing it again"
    assert name in wrote
    assert len(wrote) == 2
    assert contents(out) == small


@pytest.mark.parametrize(
    "torn", [b'{"shard": {"file": "te', b"\x00" * 300, b'{"shard": 5}', b'{"shard": {}}\n', b"[1]\n"]
)
def test_a_torn_line_is_as_if_it_was_not_written(source, small, tmp_path, torn):
    out = tmp_path / "out"
    cut_off(source, out)
    with (out / JOURNAL_NAME).open("ab") as file:
        file.write(torn)
    wrote, _ = go_on(source, out, SMALL)
    assert len(wrote) == SHARDS - 2
    assert contents(out) == small


def test_what_is_noted_behind_a_torn_line_is_found_again(source, small, tmp_path):
    """Cut off a second time: the torn line must be gone, or it hides what came after it."""
    out = tmp_path / "out"
    cut_off(source, out, count=1)
    with (out / JOURNAL_NAME).open("ab") as file:
        file.write(b'{"shard": {"file": "te')
    list(convert_module.convert(plan(source, out, roles=SMALL)))
    assert len(journalled(out)) == SHARDS
    wrote, said = go_on(source, out, SMALL)
    assert (wrote, said) == ([], [f"continuing: {SHARDS} of {SHARDS} files are finished"])
    assert contents(out) == small


def test_the_last_whole_line_torn_costs_one_shard(source, small, tmp_path):
    out = tmp_path / "out"
    cut_off(source, out)
    journal = out / JOURNAL_NAME
    journal.write_bytes(journal.read_bytes()[:-1])
    wrote, _ = go_on(source, out, SMALL)
    assert len(wrote) == SHARDS - 1
    assert contents(out) == small


def test_a_line_about_another_file_is_not_followed(source, small, tmp_path):
    """Nor is it counted as written."""
    out = tmp_path / "out"
    cut_off(source, out)
    (tmp_path / "secret").write_bytes(b"x")
    stranger = {"file": "../secret", "nbytes": 10**15, "sha256": "00", "errors": {}}
    with (out / JOURNAL_NAME).open("ab") as file:
        file.write(json.dumps({"shard": stranger}).encode() + b"\n")
    wrote, _ = go_on(source, out, SMALL)
    assert len(wrote) == SHARDS - 2
    assert contents(out) == small


@pytest.mark.parametrize(
    ("key", "value"),
    [("device", "cuda NVIDIA H100"), ("threads", 64), ("tools", {"torch": "1.0"})],
)
def test_other_circumstances_are_said_and_it_starts_over(source, small, tmp_path, key, value):
    out = tmp_path / "out"
    cut_off(source, out)
    first, *rest = (out / JOURNAL_NAME).read_text().splitlines(keepends=True)
    begun = json.loads(first)
    begun["begun"][key] = value
    (out / JOURNAL_NAME).write_text(json.dumps(begun) + "\n" + "".join(rest))
    wrote, said = go_on(source, out, SMALL)
    assert said == [f"begun with different {key}, so bits may differ; starting over"]
    assert len(wrote) == SHARDS
    assert contents(out) == small


def test_the_number_of_threads_is_part_of_it(source, tmp_path):
    """The last bit of a mean in nf4 depends on it."""
    cut_off(source, tmp_path / "out")
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        wrote, said = go_on(source, tmp_path / "out", SMALL)
    finally:
        torch.set_num_threads(threads)
    assert said == ["begun with different threads, so bits may differ; starting over"]
    assert len(wrote) == SHARDS


@pytest.mark.parametrize("change", ["scheme", "source", "tokenizer", "roles"])
def test_another_conversion_in_its_place_is_refused_and_nothing_is_touched(source, tmp_path, change):
    own, out = copied(source, tmp_path / "own"), tmp_path / "out"
    cut_off(own, out)
    before, scheme, roles = contents(out), "nf4", SMALL
    if change == "scheme":
        scheme = "int8"
    elif change == "roles":
        roles = ("text_encoder", "vae")
    elif change == "tokenizer":
        (own / "tokenizer.json").write_text('{"version": "2.0"}')
    else:
        weights = torch.load(own / "models_t5_umt5-xxl-enc-bf16.pth")
        weights["norm.weight"][0] += 1
        torch.save(weights, own / "models_t5_umt5-xxl-enc-bf16.pth")
    with pytest.raises(OutputError) as caught:
        convert(own, out, scheme, roles=roles)
    said = "holds an unfinished conversion of something else; remove it or name another folder"
    assert str(caught.value) == f"{out}: {said}"
    assert contents(out) == before


def test_sources_once_hashed_are_not_hashed_again(source, whole, tmp_path, monkeypatch):
    events = convert_module.convert(plan(source, tmp_path / "out"))
    done = [event for event in events if isinstance(event, PhaseAdvanced)]
    assert len(done) == 14  # ten shards, four sources; it was cut off before the report
    hashed = []
    original = convert_module.hash_file
    monkeypatch.setattr(
        convert_module, "hash_file", lambda path, cancel: (hashed.append(path), original(path, cancel))[1]
    )
    wrote, _ = go_on(source, tmp_path / "out", inputs.ROLES)
    assert wrote == []
    assert all(path.is_relative_to(tmp_path / "out") for path in hashed)
    assert contents(tmp_path / "out") == whole


def test_a_disk_that_fills_up_is_one_line_and_the_same_command_goes_on(source, small, tmp_path, monkeypatch):
    out, original, left = tmp_path / "out", os.replace, [3]

    def replace(*args):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        original(*args)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OutputError) as caught:
        convert(source, out, roles=SMALL)
    assert str(caught.value).endswith("the disk is full; free some space and type the same command again")
    assert not [name for name in contents(out) if name.endswith(".partial")]
    monkeypatch.undo()
    wrote, _ = go_on(source, out, SMALL)
    assert len(wrote) == SHARDS - 2
    assert contents(out) == small


def test_the_disk_needs_room_only_for_what_is_left(source, small, tmp_path, monkeypatch):
    out = tmp_path / "out"
    cut_off(source, out)
    conversion = plan(source, out, roles=SMALL)
    left = conversion.nbytes - sum(len(contents(out)[name]) for name in standing(out))
    usage = convert_module.shutil.disk_usage(tmp_path)
    room = [left + convert_module.SPARE - 1]
    monkeypatch.setattr(convert_module.shutil, "disk_usage", lambda _: usage._replace(free=room[0]))
    with pytest.raises(OutputError, match="are free; free some space"):
        convert(source, out, roles=SMALL)
    room[0] += 1
    go_on(source, out, SMALL)
    assert contents(out) == small
