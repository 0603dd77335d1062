"""What only a card can show, the most telling first, within so many minutes.

    python -m benchmarks.card WORK [--minutes 12] [--results FOLDER]
    python -m benchmarks.card WORK --prepare

In this order: whether a video is made at all, with the built-in model; peaks against plans of 241 frames under the
caps of cards of 8, 6 and 24 GB; seconds of a step plain, fused and in fp8, next to the floor, the reference's way
and diffusers; one clip on several cards, if there are several; the tests that need a card; what else the targets of
`speed` and `fit` speak of; the rest of both.

What fails is left behind, and the others go on. What is finished is kept in FOLDER and is not run again: the same
command goes on, also on another machine with the same card that has FOLDER. Nothing runs after the minutes: what is
at work then is ended, and is left for the next call. At the end every target is told, and how it stands.

With --prepare the weights are written that the first minutes need, once, and nothing is measured: that needs no
card. WORK takes 23 GB of disk for them, and 50 GB for everything.

Without a card, or with --small, the same sequence runs at a small size on the CPU. That proves the code and
measures nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import RESULTS, ROOT, command
from benchmarks.fit import command as fit_command, targets as fit_targets
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
STORYBOARD = "[global caption] A red ball before a wall. [per shot caption] It rests. [shot cut] It rolls."
WORDS = {True: "met", False: "MISSED", None: "not judged"}
SHORTEST = 30.0  # seconds that each has, if they are left
RESERVE = 5.0  # seconds in which a benchmark ends by itself before it is ended


@dataclass(frozen=True)
class Check:
    """A command that passes or does not, as `tells` says of it. share: of the minutes, the most it may take."""

    name: str
    tells: str
    share: float


@dataclass(frozen=True)
class Stage:
    """Parts of a benchmark by patterns; all of them without any. share: as of a check."""

    benchmark: str
    only: tuple[str, ...] = ()
    share: float = 1.0


RUNS = Check("runs", "a video of the built-in model", 0.25)
TESTED = Check("tests", "tests that need a card", 0.4)
TOGETHER = Check("together", "one clip on several cards", 0.2)
SCHEMES = ("nf4", "int8")  # of the weights that the first minutes need
PEAKS = ("weights-nf4", "card-8-five", "card-6-five", "weights-int8", "card-24-five")
SECONDS = tuple(
    f"{way} @{speed_targets.LENGTH}"
    for way in (
        "bf16 sdpa",  # fused, where that is possible
        "bf16 auto, not fused",
        "fp8 auto",
        "floor",
        "reference",
        "diffusers resident",
    )
)
SEQUENCE: tuple[Check | Stage, ...] = (
    RUNS,
    Stage("fit", PEAKS, 0.5),
    Stage("speed", SECONDS),
    TOGETHER,
    TESTED,
    Stage("speed", speed_targets.JUDGED),
    Stage("fit", fit_targets.FIRST),
    Stage("fit"),
    Stage("speed"),
)
STAGES = tuple(each for each in SEQUENCE if isinstance(each, Stage))


@dataclass(frozen=True)
class Place:
    """Where models are written and results kept, and whether all of it is small, on the CPU."""

    work: Path
    results: Path
    device: str
    small: bool = False

    @property
    def several(self) -> bool:
        """Whether there is more than one card; a CPU stands for as many as one likes."""
        return self.small or torch.cuda.device_count() > 1

    def result(self, name: str) -> Path:
        """A benchmark's result file, or that of a check."""
        return self.results / f"{name}-{slug(self.device)}.json"

    def command(self, benchmark: str, minutes: float) -> list[str]:
        """What runs a benchmark for so many minutes."""
        script = [*command(benchmark), str(self.work), *(["--small"] if self.small else [])]
        return [*script, "--result", str(self.result(benchmark)), "--minutes", f"{minutes:.3f}"]

    def check_command(self, check: Check) -> list[str]:
        """What runs a check."""
        if check is TESTED:
            files = [f"tests/{name}" for name in TESTS]
            return [sys.executable, "-m", "pytest", "-q", "-k", NEEDING_A_CARD, *files]
        if check is TOGETHER:
            size = ("48x32", "9") if self.small else ("832x480", "241")
            words = ["--rounds", "1", "--size", size[0], "--frames", size[1]]
            return [*command("ranks"), *words, *([] if self.small else ["--cards", str(self.work)])]
        video = self.work / "runs.mp4"
        device = "cpu" if self.small else "cuda"
        words = ["generate", STORYBOARD, "--out", str(video), "--overwrite", "--device", device, "--quiet"]
        frames, steps = ("9", "2") if self.small else ("33", "8")
        return [sys.executable, "-m", "holo_lite", *words, "--frames", frames, "--steps", steps]


@click.command(help=__doc__)
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--minutes", type=float, default=ENDLESS, help="How long it may take.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="Where results are kept.  [default: benchmarks/results; on a CPU WORK]",
)
@click.option("--prepare", is_flag=True, help="Only write the weights that the first minutes need.")
@click.option("--small", is_flag=True, help="Prove the code at a small size on the CPU.")
def main(work: Path, minutes: float, results: Path | None, prepare: bool, small: bool) -> None:
    clock = Clock(time.perf_counter(), minutes)
    on_card = torch.cuda.is_available() and not small
    work.mkdir(parents=True, exist_ok=True)
    if prepare:
        write_weights(work, clock, small=small)
        return
    if not on_card:
        clock.say("as asked, small, on the CPU" if small else "no CUDA card was found: small, on the CPU")
    device = device_name(torch.device("cuda" if on_card else "cpu"))
    place = Place(work, results or (RESULTS if on_card else work), device, not on_card)
    place.results.mkdir(parents=True, exist_ok=True)
    for each in SEQUENCE:
        seconds = min(clock.left(), max(SHORTEST, 60 * minutes * each.share))
        if seconds < LEAST or (each is TOGETHER and not place.several):
            continue
        if isinstance(each, Check):
            run_check(each, place, clock, seconds)
        else:
            run(each, place, clock, seconds)
    for line in summary(place):
        print(line)


def write_weights(work: Path, clock: Clock, *, small: bool) -> None:
    """Write the models of the first stage, at full size also where there is no card."""
    scale = fit_command.Scale.tiny() if small else fit_command.Scale.full()
    bench = fit_command.Bench(work, torch.device("cpu"), scale, clock)
    for scheme in SCHEMES:
        bench.folder(scheme)
    clock.say(f"{work} has the weights")


def run_check(check: Check, place: Place, clock: Clock, seconds: float) -> None:
    """Run a check, once for a state of the code, and keep what it said last."""
    path, code = place.result(check.name), fingerprint(*CODE)
    if (finished(path) or {}).get("code") == code:
        clock.say(f"{check.name}: done before")
        return
    clock.say(f"{check.name}: begin")
    limit, log = min(LIMIT, seconds), path.with_suffix(".txt")
    with log.open("w", encoding="utf-8") as file:
        command = place.check_command(check)
        ended = ended_within(command, limit, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    said = log.read_text(errors="replace").splitlines()[-30:]
    how = "took too long" if ended is None else "passed" if ended == 0 else f"ended with code {ended}"
    clock.say(": ".join([check.name, how, *said[-1:]]))
    if ended is not None or limit == LIMIT:
        write_record(path, {"code": code, "passed": ended == 0, "said": said})


def run(stage: Stage, place: Place, clock: Clock, seconds: float) -> None:
    """Run what is missing of a stage, so many seconds at most. What goes wrong in it is its own affair."""
    clock.say(f"{stage.benchmark}: {', '.join(stage.only) or 'the rest'}")
    only = [word for pattern in stage.only for word in ("--only", pattern)]
    command = [*place.command(stage.benchmark, (seconds - RESERVE) / 60), "--quiet", *only]
    code = ended_within(command, seconds)  # it ends by itself, unless something hangs
    if code != 0:
        clock.say(f"{stage.benchmark}: {'took too long' if code is None else f'ended with code {code}'}")


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
    for check in (RUNS, *([TOGETHER] if place.several else []), TESTED):
        yield from checked(check, finished(place.result(check.name)))
    for state, word in WORDS.items():
        names = [f"    {target}: {figures}" for target, met, figures in found if met is state]
        yield f"{len(names):3} of {len(found)} targets {word}"
        yield from names if state is False else ()


def finished(path: Path) -> dict[str, Any] | None:
    """A result, if there is one."""
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found


def checked(check: Check, found: Mapping[str, Any] | None) -> Iterator[str]:
    """How a check went."""
    if found is None:
        yield f"{check.tells}: not finished"
        return
    yield f"{check.tells}: {'passed' if found['passed'] else 'FAILED'}"
    yield from found["said"][-1:] if found["passed"] else found["said"]


if __name__ == "__main__":
    main()
