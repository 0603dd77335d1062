"""The benchmarks run, at sizes that take seconds, and say what they say they say. No time is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
CARDS = (6, 8, 12, 16, 24)


def script(name, *words):
    command = [sys.executable, str(BENCHMARKS / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    work = tmp_path_factory.mktemp("fit")
    return work, *script("fit.py", work, "--small")


def test_every_part_of_the_fit_runs(fit):
    _, said, found = fit
    assert (found["benchmark"], found["small"]) == ("fit", True)
    assert set(found["parts"]) == {
        *(f"weights-{scheme}" for scheme in ("nf4", "int8")),
        *(f"card-{card}-{film}" for card in CARDS for film in ("five", "one")),
        "card-8-minute",
        "least-five",
        "least-one",
        *(f"decode-{card}" for card in CARDS),
        *(
            f"{part}-{scheme}"
            for part in ("pinned-five", "pinned-short", "disk-five")
            for scheme in ("nf4", "int8")
        ),
    }
    assert all(f"{name}: done" in said for name in found["parts"])


def test_the_fit_measures_what_its_targets_ask(fit):
    _, _, found = fit
    card = found["parts"]["card-12-five"]
    assert card["allocated"] <= card["planned"] <= card["budget"]
    assert 0 < card["resident_blocks"] < card["blocks"]
    assert card["finite"]
    assert not card["rungs"]
    assert len(card["seconds"]) == 3
    assert 0 <= card["waited_share"] < 1
    least = found["parts"]["least-one"]
    assert (least["resident_blocks"], least["joint"]) == (0, False)
    disk = found["parts"]["disk-five-nf4"]
    assert {"disk_bytes_a_second", "reading_seconds", "could_hide", "slower"} <= set(disk)
    assert found["parts"]["decode-6"]["frames"] == 21
    verdicts = {(each["part"], each["target"]): each["met"] for each in found["targets"]}
    assert verdicts["card-6-five", "runs, and no rung of the ladder was needed"]
    assert verdicts["decode-8", "decodes untiled"]
    assert verdicts["pinned-five-nf4", "pinned at most 2 % slower than resident"] is None, "a time at small size"


def test_a_fit_goes_on_where_it_stopped(fit):
    work, _, found = fit
    record = work / "fit-small.json"
    kept = json.loads(record.read_text())
    del kept["parts"]["decode-24"]
    record.write_text(json.dumps(kept))
    said, again = script("fit.py", work, "--small")
    assert said.count("done before") == len(found["parts"]) - 1
    assert again["parts"]["decode-24"]["frames"] == 21
    assert again["parts"]["card-6-five"] == found["parts"]["card-6-five"]


def test_a_block_is_timed_against_the_whole_sequence():
    sizes = ("--dim", 64, "--heads", 2, "--ffn-dim", 96, "--frames", 9, "--shots", 2, "--height", 32, "--width", 48)
    said, found = script("forward.py", *sizes, "--repeats", 1, "--device", "cpu")
    assert {"benchmark", "device", "torch", "seconds", "peak_bytes", "speed", "memory"} <= set(found)
    assert "shot by shot is" in said
