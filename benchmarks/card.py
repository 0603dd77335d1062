"""What only a card can show, in the order of its worth, within so many minutes.

    python -m benchmarks.card WORK [--minutes 25] [--results FOLDER]

First what the targets of `speed` speak of and what those of `fit` say of a card of 8 GB, then the tests that
need a card, and after that the rest of both. What fails is left behind, and the others go on. What is finished
stands in FOLDER and is not run again: the same command goes on, also on another machine with the same card that has
FOLDER. WORK takes some 50 GB of disk. At the end every target is told, and how it stands.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import ROOT, command
from benchmarks.fit import targets as fit_targets
from benchmarks.resumable import ENDLESS, LEAST, LIMIT, Clock, ended_within, fingerprint, write_record
from benchmarks.speed import targets as speed_targets
from benchmarks.timing import device_name, slug

CODE = ROOT / "holo_lite", ROOT / "tests"
TESTS = (
    "eightbit/test_eight_bit.py",
    "kernels/test_fused.py",
    "kernels/test_kernels.py",
    "plan/test_plan_measured.py",
    "schemes/test_schemes.py",
)
NEEDING_A_CARD = "a_card or this_card or cuda"  # what their names hold
WORDS = {True: "met", False: "MISSED", None: "not judged"}


@dataclass(frozen=True)
class Stage:
    """Parts of a benchmark by patterns; all of them without any."""

    benchmark: str
    only: tuple[str, ...] = ()


STAGES = (
    Stage("speed", speed_targets.JUDGED),
    Stage("fit", fit_targets.FIRST),
    Stage("fit"),
    Stage("speed"),
)
TELLING = 2  # of them, which come before the tests


@dataclass(frozen=True)
class Place:
    """Where models are written, where results stand, and words that every benchmark is called with."""

    work: Path
    results: Path
    device: str
    words: tuple[str, ...] = ()

    def result(self, name: str) -> Path:
        """A benchmark's result file, or that of the tests."""
        return self.results / f"{name}-{slug(self.device)}.json"

    def command(self, benchmark: str, minutes: float) -> list[str]:
        """What runs a benchmark for so many minutes."""
        script = [*command(benchmark), str(self.work)]
        return [*script, "--result", str(self.result(benchmark)), "--minutes", f"{minutes:.3f}", *self.words]


@click.command(help=__doc__)
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--minutes", type=float, default=ENDLESS, help="How long it may take.")
@click.option("--results", type=click.Path(path_type=Path), help="Where results stand.  [default: WORK]")
@click.option("--small", is_flag=True, help="Prove the code at a small size on the CPU.")
def main(work: Path, minutes: float, results: Path | None, small: bool) -> None:
    clock = Clock(time.perf_counter(), minutes)
    small = small or not torch.cuda.is_available()
    device = device_name(torch.device("cpu" if small else "cuda"))
    place = Place(work, results or work, device, ("--small",) if small else ())
    place.results.mkdir(parents=True, exist_ok=True)
    for stage in STAGES[:TELLING]:
        run(stage, place, clock)
    run_tests(place, clock)
    for stage in STAGES[TELLING:]:
        run(stage, place, clock)
    for line in summary(place):
        print(line)


def run_tests(place: Place, clock: Clock) -> None:
    """Run the tests that need a card, once for a state of the code, and keep what they said last."""
    path, code = place.result("tests"), fingerprint(*CODE)
    if (finished(path) or {}).get("code") == code:
        clock.say("tests: done before")
        return
    clock.say("tests: begin")
    limit = min(LIMIT, clock.left())
    files = [f"tests/{name}" for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-k", NEEDING_A_CARD, *files]
    path.parent.mkdir(parents=True, exist_ok=True)
    log = path.with_suffix(".txt")
    with log.open("w") as file:
        ended = ended_within(command, limit, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    said = log.read_text(errors="replace").splitlines()[-30:]
    clock.say(f"tests: {said[-1] if said else ended}")
    if ended is not None or limit == LIMIT:
        write_record(path, {"code": code, "passed": ended == 0, "said": said})


def run(stage: Stage, place: Place, clock: Clock) -> None:
    """Run what is missing of a stage, as long as there is time. What goes wrong in it is its own affair."""
    if clock.left() < LEAST:
        return
    clock.say(f"{stage.benchmark}: {', '.join(stage.only) or 'the rest'}")
    only = [word for pattern in stage.only for word in ("--only", pattern)]
    command = [*place.command(stage.benchmark, clock.left() / 60), "--quiet", *only]
    code = ended_within(command, clock.left() + LIMIT)  # it ends by itself, unless something hangs
    if code != 0:
        clock.say(f"{stage.benchmark}: ended with code {code}")


def summary(place: Place) -> Iterator[str]:
    """Tables of what is finished, then how the tests and every target stand."""
    found: list[tuple[str, bool | None, str]] = []
    if speed := finished(place.result("speed")):
        yield from (*speed_targets.table(speed), "")
        found += [(each.target, each.met, each.figures) for each in speed_targets.verdicts(speed)]
    if fit := finished(place.result("fit")):
        verdicts = fit_targets.targets(fit["parts"], small=fit["small"])
        yield from (*fit_targets.table(fit, verdicts), "")
        found += [(f"{each.part}: {each.target}", each.met, each.figures) for each in verdicts]
    yield from tested(finished(place.result("tests")))
    for state, word in WORDS.items():
        names = [f"    {target}: {figures}" for target, met, figures in found if met is state]
        yield f"{len(names):3} of {len(found)} targets {word}"
        yield from names if state is False else ()


def finished(path: Path) -> dict[str, Any] | None:
    """A result, if there is one."""
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return found


def tested(found: dict[str, Any] | None) -> Iterator[str]:
    """How the tests went."""
    if found is None:
        yield "tests that need a card: not finished"
        return
    yield f"tests that need a card: {'passed' if found['passed'] else 'FAILED'}"
    yield from found["said"][-1:] if found["passed"] else found["said"]


if __name__ == "__main__":
    main()
