"""The memory promise, without a card: every profile's plan, run against a model of PyTorch's allocator.

    python -m benchmarks.allocator [--profile 8gb --frames 241] [--models build/hollow]

Each run goes through the text encoder, both experts with their switch, and the decoder, at full size and with the
runtime's own allocations, under the cap that a real run has. What must hold: no more reserved than the cap, no
retries, and in no phase more allocated than its plan says. Nothing is measured, and no card is needed; what cuDNN's
convolutions take as workspace is not known here and not counted. A line a run; the exit code says whether all hold.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from benchmarks import ROOT
from benchmarks.allocator.cases import Case, Outcome, every_case
from benchmarks.allocator.watching import Told

GIB = 2**30
MODELS = ROOT / "build" / "hollow"


@click.command(help=__doc__)
@click.option("--profile", "profiles", multiple=True, help="These profiles only.")
@click.option("--frames", type=int, multiple=True, help="These lengths only.")
@click.option("--models", type=click.Path(path_type=Path), default=MODELS, help="Where hollow models are written.")
def main(profiles: tuple[str, ...], frames: tuple[int, ...], models: Path) -> None:
    told: Told = {}
    missed = 0
    for case in chosen(profiles, frames):
        outcome = case.run(models, told)
        missed += bool(outcome.misses())
        print(line(outcome), flush=True)
    print("all of it holds" if not missed else f"{missed} runs do not hold what is promised")
    sys.exit(1 if missed else 0)


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
