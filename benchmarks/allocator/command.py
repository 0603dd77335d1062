"""The memory promise, without a card: every profile's plan, run against a model of PyTorch's allocator.

    python -m benchmarks.allocator [--profile 8gb --frames 241] [--result FILE] [--models build/hollow]

Each run goes through the text encoder, both experts with their switch, and the decoder, at full size and with the
runtime's own allocations, under the cap that a real run has. What must hold: no more reserved than the cap, no
retries, and in no phase more allocated than its plan says. Nothing is measured, and no card is needed; what cuDNN's
convolutions take as workspace is not known here and not counted. A line a run; the exit code says whether all hold.

With --result each run is kept in FILE as soon as it is done, and is not made again while the code is the same: what
is cut off goes on with the same command. --list only tells which runs are asked for and which of them are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks import ROOT
from benchmarks.allocator.cases import Case, Outcome, every_case
from benchmarks.allocator.watching import Told
from benchmarks.resumable import Result, fingerprint

GIB = 2**30
MODELS = ROOT / "build" / "hollow"
CODE = tuple(ROOT / folder for folder in ("holo_lite", "quantize", "benchmarks/allocator", "benchmarks/count"))


@click.command(help=__doc__)
@click.option("--profile", "profiles", multiple=True, help="These profiles only.")
@click.option("--frames", type=int, multiple=True, help="These lengths only.")
@click.option("--result", type=click.Path(path_type=Path), help="Where finished runs are kept.")
@click.option("--list", "listing", is_flag=True, help="Run nothing; say what would be run.")
@click.option("--models", type=click.Path(path_type=Path), default=MODELS, help="Where hollow models are written.")
def main(
    profiles: tuple[str, ...], frames: tuple[int, ...], result: Path | None, listing: bool, models: Path
) -> None:
    kept, missed = Kept.at(result), 0
    told: Told = {}
    cases = list(chosen(profiles, frames))
    if not cases:
        raise click.UsageError("--profile, --frames: no run is of these; --list without them names all runs")
    done = kept.lines()
    if listing:
        for case in cases:
            print(f"{'kept' if str(case) in done else 'to run':8} {case}")
        return
    for case in cases:
        found = done.get(str(case)) or kept.keep(case, case.run(models, told))
        missed += bool(found["misses"])
        print(found["line"], flush=True)
    print("all of it holds" if not missed else f"{missed} runs do not hold what is promised")
    sys.exit(1 if missed else 0)


@dataclass(frozen=True)
class Kept:
    """Finished runs in a file, or (None) nowhere."""

    result: Result | None

    @classmethod
    def at(cls, path: Path | None) -> Kept:
        """Those of the code as it is now. Raises `click.UsageError` for a file of other code."""
        return cls(None if path is None else Result(path, {"code": fingerprint(*CODE)}, ("code",)))

    def lines(self) -> Mapping[str, Mapping[str, Any]]:
        """By case, the line of a run and what of the promise it misses."""
        found: Mapping[str, Mapping[str, Any]] = {} if self.result is None else self.result.read()["parts"]
        return found

    def keep(self, case: Case, outcome: Outcome) -> Mapping[str, Any]:
        """Write a run down."""
        found = {"line": line(outcome), "misses": outcome.misses()}
        if self.result is not None:
            self.result.keep(str(case), found)
        return found


def chosen(profiles: tuple[str, ...], frames: tuple[int, ...]) -> Iterator[Case]:
    """The cases that are asked for."""
    for case in every_case():
        if (not profiles or case.profile in profiles) and (not frames or case.frames in frames):
            yield case


def line(outcome: Outcome) -> str:
    """A run in a line: allocated of planned by phase, reserved of the cap."""
    planned = outcome.plan.peak
    phases = ", ".join(
        f"{name} {taken / GIB:.3f} of {planned[name] / GIB:.3f}" for name, taken in outcome.allocated.items()
    )
    reserved = f"reserved {outcome.reserved / GIB:.3f} of {outcome.plan.budget / GIB:.3f} GiB"
    return "; ".join([f"{outcome.case}: {phases}; {reserved}", *outcome.misses()])


if __name__ == "__main__":
    main()
