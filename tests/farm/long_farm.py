"""The farm as people use it, by its command, with everything that may befall it: `make farm-test`.

What is here takes minutes, and is no part of `make test`.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from farming import STORE, TINY, cluster_of, write_boards
from guard import HANGS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster():
    with cluster_of("left", "right") as made:
        yield made


@pytest.fixture
def boards(tmp_path):
    return write_boards(tmp_path / "boards", "abcd")


def started(boards, address, *more):
    """The command, in a process group of its own as a terminal gives it."""
    words = [sys.executable, "-m", "holo_lite", "batch", boards, "--out", boards.parent / "films", "--ray", address]
    path = os.pathsep.join(filter(None, [str(ROOT), *map(str, sys.path)]))
    return subprocess.Popen(
        list(map(str, [*words, *TINY, *more])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def ended(process):
    """Its exit code and what it printed."""
    out, err = process.communicate(timeout=HANGS)
    return process.returncode, out.splitlines(), err


def until(what):
    """Wait until something is so."""
    end = time.monotonic() + HANGS
    while not (found := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return found


def states(boards):
    """The runs with a saved step."""
    return list((boards.parent / "films").glob("*.run/state.safetensors"))


def cards():
    """The processes on cards of the cluster, whose machines this process has started."""
    return [each for each in psutil.Process().children(recursive=True) if "RayCard" in each.name()]


def family(process):
    """All processes that a command has started, Ray's too."""
    return psutil.Process(process.pid).children(recursive=True)


def are_gone(processes):
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


def test_ctrl_c_ends_all_and_no_finished_step_is_lost(boards):
    process = started(boards, "local")
    until(lambda: states(boards))
    started_by_it = family(process)
    assert started_by_it
    os.killpg(process.pid, signal.SIGINT)
    code, out, err = ended(process)
    assert code == 130, err
    assert "finished videos are kept; type the same command to continue" in err
    assert "Traceback" not in err
    assert out[-1].endswith("not begun or interrupted")
    assert states(boards)
    until(lambda: are_gone(started_by_it))
    code, out, err = ended(started(boards, "local"))
    assert (code, out[-1]) == (1, "4 done, 1 failed")
    assert "continuing after step" in err
    assert not list((boards.parent / "films").glob("*.run"))


def test_sigterm_ends_all_too(boards):
    process = started(boards, "local")
    until(lambda: states(boards))
    started_by_it = family(process)
    process.terminate()
    code, _, err = ended(process)
    assert code == 143, err
    assert states(boards)
    until(lambda: are_gone(started_by_it))


def test_the_second_time_all_is_left_as_it_is(cluster, boards):
    (boards / "none.toml").unlink()
    code, out, err = ended(started(boards, cluster.address))
    assert (code, out[-1]) == (0, "4 done"), err
    films = boards.parent / "films"
    before = {path: path.stat().st_mtime_ns for path in films.iterdir()}
    code, out, err = ended(started(boards, cluster.address))
    assert (code, out[-1]) == (0, "4 kept"), err
    code, out, err = ended(started(boards, cluster.address, "--seed", 4))
    assert (code, out[-1]) == (1, "4 different"), err
    assert {path: path.stat().st_mtime_ns for path in films.iterdir()} == before


def test_two_drivers_at_once_make_no_clip_twice(cluster, boards):
    both = [started(boards, cluster.address) for _ in range(2)]
    results = [ended(process) for process in both]
    made = [line.split()[1] for _, out, _ in results for line in out if line.startswith("done ")]
    assert sorted(made) == [f"{boards.parent}/films/{name}.mp4" for name in "abcd"], results
    assert [code for code, _, _ in results] == [1, 1], "because of the storyboard that is none"
    for _, out, _ in results:
        assert sum(line.startswith(("done ", "kept ")) for line in out) == 4


def test_a_process_that_is_killed_is_started_again_and_its_clip_goes_on(cluster, boards):
    process = started(boards, cluster.address)
    until(lambda: states(boards))
    for card in cards():
        card.kill()
    code, out, err = ended(process)
    assert (code, out[-1]) == (1, "4 done, 1 failed"), err
    assert ": lost (" in err
    assert "continuing after step" in err


def test_a_driver_that_is_killed_leaves_nothing_running_and_its_clips_to_the_next(cluster, boards):
    process = started(boards, cluster.address)
    until(lambda: states(boards))
    process.kill()
    process.communicate()
    until(lambda: not cards())
    code, out, err = ended(started(boards, cluster.address))
    assert (code, out[-1]) == (1, "4 done, 1 failed"), err
    assert "continuing after step" in err


def test_every_card_of_a_machine_has_a_process_of_its_own(cluster, boards):
    """Ray takes our word for two cards; PyTorch finds none, and computes on the processor."""
    rig = cluster.add_node(num_cpus=4, num_gpus=2, object_store_memory=STORE, node_name="rig")
    try:
        code, out, err = ended(started(boards, cluster.address))
    finally:
        cluster.remove_node(rig)
    assert (code, out[-1]) == (1, "4 done, 1 failed"), err
    for number in range(2):
        assert f"rig card {number}: ready" in err
        assert re.search(rf"^\d of 4: .*, on rig card {number}$", err, flags=re.MULTILINE)
    assert "left: ready" not in err, "where there are cards, processors are left to others"
