"""The soak puts its faults into real runs, and is failed by a runtime that does not survive them."""

import errno
import json
import os
import struct
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, strategies as st

from benchmarks.soak import command as soak, faults as soak_faults, film as soak_film
from benchmarks.soak.disk import Disk, full_disk, no_file_beyond
from benchmarks.soak.killed import Life
from benchmarks.soak.memory import Growth, Held, slope
from benchmarks.soak.run import Ledger, LostError, Run
from holo_lite.render import given_phase
from holo_lite.render.denoise_phase import Denoiser
from holo_lite.runs import sealed
from holo_lite.runs.folder import RunFolder
from holo_lite.weights.audit import Audit

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A soak of one film, the smallest there is, before its first run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soak_film, "SIZES", ((32, 48),))
        patch.setattr(soak_film, "LATENTS", range(4, 5))
        patch.setattr(soak_film, "STEPS", range(3, 4))
        patch.setattr(soak_film, "CACHED", 0)
        return soak.Soak.begin(tmp_path_factory.mktemp("soak"), 1, 13, CPU)


@pytest.fixture
def main(begun, monkeypatch, capsys):
    """The command, with the film that was begun: its exit code, what it says, its line of JSON."""

    def main(*words):
        monkeypatch.setattr(soak.Soak, "begin", lambda *_: begun)
        with pytest.raises(SystemExit) as caught:
            soak.main.main([*map(str, words)])
        said = capsys.readouterr().out
        return caught.value.code, said, json.loads(said.splitlines()[-1])

    return main


def test_one_run_of_each_fault_survives_and_is_reported(main, tmp_path):
    code, said, found = main("--runs", 5, "--seed", 2, "--keep", "--kept", tmp_path / "kept.json")
    assert (found["lost_because"], found["left_behind"], found["leaks"]) == ({}, [], [])
    assert (code, found["lost"]) == (0, 0)
    assert {kind: row["runs"] for kind, row in found["faults"].items()} == dict.fromkeys(soak.FAULTS, 1)
    assert {kind: row["struck"] for kind, row in found["faults"].items()} == {
        kind: int(kind != "none") for kind in soak.FAULTS
    }
    assert found["faults"]["corrupt block"]["told"] == 1
    assert found["held"]["rss"]["last"] > 0
    assert said.count("run ") >= 5
    assert json.loads((tmp_path / "kept.json").read_text()) == found


# --- a runtime that does not survive -------------------------------------------------------------


@pytest.fixture
def lost(begun, monkeypatch):
    """Why a run with this fault is lost; nothing if it is not."""

    def lost(fault, number=1):
        monkeypatch.setitem(soak.FAULTS, "tried", fault)
        return begun.endure(number, "tried").lost

    return lost


def test_another_result_is_lost_and_ends_with_1(main, monkeypatch):
    noise = given_phase.initial_noise
    monkeypatch.setattr(given_phase, "initial_noise", lambda *given: noise(*given) * (1 + 2**-20))
    code, said, found = main("--runs", 1, "--fault", "none")
    assert (code, found["lost"]) == (1, 1)
    assert "LOST run 1: none: the video or its sheet is another one" in said


def test_a_state_that_is_believed_though_it_was_changed_is_lost(lost, monkeypatch):
    @contextmanager
    def flipped_latents(path, _):
        path = path.with_name("state.safetensors")
        content = bytearray(path.read_bytes())
        content[8 + struct.unpack("<Q", content[:8])[0] + 2] ^= 64
        path.write_bytes(content)
        yield "a latent flipped"

    monkeypatch.setattr(soak_faults, "harmed", flipped_latents)
    monkeypatch.setattr(sealed, "_is_sealed", lambda *_: True)
    assert lost(soak_faults.corrupt_state).startswith("nobody noticed that ")


def test_weights_that_are_believed_though_they_were_changed_are_lost(lost, monkeypatch):
    def flipped(content, _):
        return "flipped", content[:-5000] + bytes([content[-5000] ^ 1]) + content[-4999:]

    for harm in ("_flipped", "_cut_short", "_lost_page"):
        monkeypatch.setattr(soak_faults, harm, flipped)
    assert lost(soak_faults.corrupt_weights) == ""
    monkeypatch.setattr(Audit, "settle", lambda *_: None)
    assert lost(soak_faults.corrupt_weights).startswith("nobody noticed that ")


def test_a_step_that_is_done_again_is_lost(lost, monkeypatch):
    def again(run):
        run.go(until=2)
        run.go()

    assert lost(again) == ""
    monkeypatch.setattr(RunFolder, "save", lambda *_: None)
    assert lost(again) == "it went on after step 0, and 2 were saved"


def test_an_error_of_another_kind_is_lost(lost, monkeypatch):
    monkeypatch.setattr("holo_lite.render.keeper.FolderKeeper.begin", lambda _: iter([1 // 0]))
    assert "ZeroDivisionError" in lost(soak_faults.nothing)


def test_a_smaller_plan_that_changes_the_result_is_lost(lost, monkeypatch):
    go_on = Denoiser._steps

    def spoilt(denoising, experts, plan, meeting):
        if plan.rungs:
            denoising.latents = denoising.latents * 1.001
        return go_on(denoising, experts, plan, meeting)

    monkeypatch.setattr(soak_faults, "PHASES", ("denoise",))
    monkeypatch.setattr(soak_faults, "FAILURES", (1,))
    monkeypatch.setattr(Denoiser, "_steps", spoilt)
    assert "the latents differ by " in lost(soak_faults.out_of_memory)


def test_a_file_that_stays_ends_with_1(main, monkeypatch):
    def litter(run):
        run.go()
        (run.folder / "core").touch()

    monkeypatch.setitem(soak.FAULTS, "none", litter)
    code, said, found = main("--runs", 1, "--fault", "none")
    assert (code, found["lost"], found["left_behind"]) == (1, 0, ["core"])
    assert "left behind    core" in said


# --- what a killed process told ------------------------------------------------------------------


def told(*events, code=0):
    return Life(tuple((*event, "")[:3] for event in events), code, "error: it cannot")


@pytest.mark.parametrize(
    ("lives", "why"),
    [
        ([told(("StepDone", 1), ("StepDone", 2), code=-9), told(("GoingOn", 1))], "after step 1, and 2 were saved"),
        ([told(("StepDone", 1), code=-9), told(("StepDone", 1))], "after step 0, and 1 were saved"),
        ([told(("StepDone", 1), ("StepDone", 3))], "step 3 came behind step 1"),
        ([told(("StepDone", 1), code=2)], "ended with code 2: error: it cannot"),
        ([told(code=-11)], "ended with code -11"),
    ],
)
def test_a_process_that_loses_steps_or_fails_is_lost(begun, tmp_path, lives, why):
    film, reference = begun.films[0]
    run = Run(begun.pipeline, film, reference, tmp_path, tmp_path, Random(0))
    *before, last = lives
    for life in before:
        soak_faults.note_life(run, life)
    with pytest.raises(LostError, match=why):
        soak_faults.note_life(run, last)


def test_the_step_that_was_under_way_may_be_done_again():
    ledger = Ledger()
    ledger.step(1)
    ledger.keep(1)
    ledger.take_up()
    ledger.go_on(1)
    ledger.step(2)
    assert ledger.resumed == 1


# --- the tools -----------------------------------------------------------------------------------


def test_a_full_disk_refuses_what_needs_room_and_then_is_as_it_was(tmp_path):
    (tmp_path / "old").touch()
    calls = os.replace, Path.open
    with full_disk(1, 10**9) as disk:
        (tmp_path / "old").unlink()
        with pytest.raises(OSError, match="No space left") as caught, (tmp_path / "a").open("wb", 0) as file:
            file.write(bytes(10))
    assert caught.value.errno == errno.ENOSPC
    assert (disk.calls, disk.blown) == (["unlink", "write"], 1)
    assert (tmp_path / "a").stat().st_size == 5, "torn midway"
    assert (os.replace, Path.open) == calls


@pytest.mark.parametrize(
    ("when", "size", "there"), [("before", 0, False), ("midway", 2, False), ("behind", 4, True)]
)
def test_something_happens_before_a_call_or_behind_it(tmp_path, when, size, there):
    def stop():
        raise InterruptedError

    with Disk(lambda number, _: number == 0, stop, when), pytest.raises(InterruptedError):
        (tmp_path / "a").write_bytes(b"four")
    assert (tmp_path / "a").stat().st_size == size
    with Disk(lambda number, _: number == 0, stop, when), pytest.raises(InterruptedError):
        os.replace(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").exists() == there


def test_the_system_itself_refuses_a_file_beyond_its_limit(tmp_path):
    with no_file_beyond(7), pytest.raises(OSError, match="File too large"):
        (tmp_path / "a").write_bytes(bytes(8))
    (tmp_path / "b").write_bytes(bytes(8))


@given(st.floats(-100, 100), st.floats(0, 1e9), st.integers(2, 40))
def test_growth_is_found_again(a_run, begin, count):
    assert slope([begin + a_run * index for index in range(count)]) == pytest.approx(a_run, abs=1e-5)


@pytest.mark.parametrize(("name", "leaks"), [("descriptors", 1), ("python_threads", 1), ("rss", 0)])
def test_what_must_not_grow_is_a_leak_after_the_warm_up(name, leaks):
    still = {"rss": 10, "descriptors": 5, "threads": 3, "python_threads": 1}
    growth = Growth(1, [Held(**still), Held(**{**still, name: 20}), Held(**{**still, name: 21})])
    assert len(growth.leaks()) == leaks
    slow, fast = ([Held(**{**still, "rss": run * step}) for run in range(60)] for step in (2**19, 2**21))
    assert (Growth(5, slow).leaks(), Growth(5, fast).leaks()) == ([], ["memory: 2.0 MiB a run"])
    assert Growth(1, growth.held[:2]).leaks() == [], "what the first run takes is no leak"


@given(st.lists(st.sampled_from(["none", "kill"]), max_size=12))
def test_every_run_has_its_turn_and_only_killed_ones_share_it(kinds):
    turns = list(soak.in_turn(kinds))
    assert sorted(number for turn in turns for number in turn) == [*range(1, len(kinds) + 1)]
    assert all(len(turn) == 1 or {kinds[number - 1] for number in turn} == {"kill"} for turn in turns)
    assert sum(len(turn) == 1 and kinds[turn[0] - 1] == "kill" for turn in turns) <= 1
