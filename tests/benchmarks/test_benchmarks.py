"""The benchmarks run, at sizes that take seconds, and say what they say they say. No time is asserted."""

import io
import json
import subprocess
from contextlib import redirect_stdout
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from guard import HANGS

from benchmarks import card, command as benchmark, environment
from benchmarks.fit import command as fit_module
from benchmarks.speed import command as speed_module
from benchmarks.speed.cases import Bench
from benchmarks.speed.scale import Scale

CARDS = (6, 8, 12, 16, 24)
# The parts that run here: of each kind one, and every film.
HERE = ("weights-*", "card-6-five", "card-12-*", "card-8-minute", "least-*", "decode-6", "decode-8", "*-five-nf4")


def script(name, *words):
    command = [*benchmark(name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, check=False, env=environment())
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    """In this process, which has the libraries already."""
    work, said = tmp_path_factory.mktemp("fit"), io.StringIO()
    with redirect_stdout(said):
        fit_module.main.main([str(work), "--small", *only()], standalone_mode=False)
    return work, said.getvalue(), json.loads(said.getvalue().splitlines()[-1])


def only():
    return [word for pattern in HERE for word in ("--only", pattern)]


def test_every_kind_of_part_of_the_fit_runs(fit):
    """One of each kind: the others differ by a card or a scheme."""
    _, said, found = fit
    assert (found["benchmark"], found["small"]) == ("fit", True)
    every = {
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
    assert {*fit_module.parts(fit_module.Scale.tiny())} == every
    assert set(found["parts"]) == {name for name in every if any(fnmatch(name, pattern) for pattern in HERE)}
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
    del kept["parts"]["decode-6"]
    record.write_text(json.dumps(kept))
    said, again = script("fit", work, "--small", *only())
    assert said.count("done before") == len(found["parts"]) - 1
    assert again["parts"]["decode-6"]["frames"] == 21
    assert again["parts"]["card-6-five"] == found["parts"]["card-6-five"]


class Processes:
    """Stands in for what `card.py` starts: checks pass, the first stage crashes, the next one leaves a result."""

    def __init__(self, fit):
        self.fit, self.commands = fit, []

    def ended_within(self, command, seconds, *, stdout=None, **_):
        assert seconds > 0
        self.commands.append([*map(str, command)])
        if stdout is not None:
            stdout.write("..\n2 passed\n")
            return 0
        result = Path(command[command.index("--result") + 1])
        if result.name.startswith("fit"):
            result.write_text(json.dumps(self.fit), encoding="utf-8")
        return int(len(self.begun()) == 1)

    def begun(self):
        """The benchmarks."""
        return [words[2] for words in self.commands if "--result" in words]

    def checks(self):
        """The place of each check in the order."""
        return [place for place, words in enumerate(self.commands) if "--result" not in words]


CARD_8 = {"seconds_a_step": 2.0, "waited_share": 0.0, "finite": True, "rungs": ["smaller chunks"]}
CARD_8 |= {"allocated": 9, "reserved": None, "planned": 10, "budget": 10, "resident_blocks": 1, "blocks": 4}


@pytest.fixture
def processes(monkeypatch):
    record = {"small": False, "device": "a card", "torch": "2", "parts": {"card-8-five": CARD_8}}
    found = Processes(record)
    monkeypatch.setattr(card, "ended_within", found.ended_within)
    return found


def on_card(*words):
    card.main.main([*map(str, words)], standalone_mode=False)


def test_a_card_shows_everything_in_order_and_what_fails_is_left_behind(processes, tmp_path, capsys):
    on_card(tmp_path, "--small", "--minutes", 20)
    assert processes.checks() == [0, 3, 4], "whether it runs comes first, and peaks and seconds before others"
    assert processes.begun() == [f"benchmarks.{stage.benchmark}" for stage in card.STAGES]
    peaks, seconds = processes.commands[1:3]
    assert {"card-6-five", "card-8-five", "card-24-five"} <= set(peaks)
    assert {"floor @241", "reference @241", "diffusers resident @241", "fp8 auto @241"} <= set(seconds)
    minutes = [float(words[words.index("--minutes") + 1]) for words in processes.commands if "--minutes" in words]
    assert all(0 < each < 20 for each in minutes)
    assert minutes[0] < 10, "the first leave time for the others"
    said = capsys.readouterr().out
    assert "as asked, small, on the CPU" in said
    assert "fit: ended with code 1" in said
    assert "a video of the built-in model: passed" in said
    assert "one clip on several cards: passed" in said
    assert "tests that need a card: passed" in said
    assert "  2 of 4 targets met" in said
    assert (
        "  1 of 4 targets MISSED\n    card-8-five: runs, and no rung of the ladder was needed: 2.00 s a step"
        in said
    )


def test_a_card_goes_on_where_its_results_are(processes, tmp_path, capsys):
    on_card(tmp_path / "one", "--small", "--results", tmp_path / "results")
    on_card(tmp_path / "another", "--small", "--results", tmp_path / "results", "--minutes", 100)
    assert len(processes.checks()) == 3
    said = capsys.readouterr().out
    assert "runs: done before" in said
    assert "tests: done before" in said
    assert len(processes.begun()) == 2 * len(card.STAGES), "the stages look for what they lack"
    on_card(tmp_path / "another", "--small", "--results", tmp_path / "results", "--minutes", 0.1)
    assert len(processes.begun()) == 2 * len(card.STAGES), "in six seconds nothing is begun"
    results = {words[words.index("--result") + 1] for words in processes.commands if "--result" in words}
    assert {Path(result).parent for result in results} == {tmp_path / "results"}


def test_what_a_stage_names_are_parts():
    """A name of another day would be passed over without a word."""
    bench = Bench(Path(), torch.device("cpu"), Scale.tiny(), print)
    found = {"fit": [*fit_module.parts(fit_module.Scale.tiny())], "speed": [*speed_module.parts(bench)]}
    found["speed"] += ["bf16 auto, not fused @241", "bf16 cudnn @241"]  # on a card
    for stage in card.STAGES:
        assert set(stage.only) <= set(found[stage.benchmark])


def test_without_a_card_the_small_form_says_so_and_makes_a_video(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(card, "SEQUENCE", (card.RUNS,))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_card(tmp_path, "--minutes", 60)
    said = capsys.readouterr().out
    assert "no CUDA card was found: small, on the CPU" in said
    assert "a video of the built-in model: passed" in said
    assert (tmp_path / "runs.mp4").stat().st_size > 0


def test_the_weights_of_the_first_minutes_are_written_before(tmp_path, capsys):
    on_card(tmp_path, "--prepare", "--small")
    assert all((tmp_path / f"small-{scheme}" / "model.json").is_file() for scheme in card.SCHEMES)
    on_card(tmp_path, "--prepare", "--small")
    assert "small-nf4 is there" in capsys.readouterr().out


def test_a_block_is_timed_against_the_whole_sequence():
    sizes = ("--dim", 64, "--heads", 2, "--ffn-dim", 96, "--frames", 9, "--shots", 2, "--height", 32, "--width", 48)
    said, found = script("forward", *sizes, "--repeats", 1, "--device", "cpu")
    assert {"benchmark", "device", "torch", "seconds", "peak_bytes", "speed", "memory"} <= set(found)
    assert "shot by shot is" in said
