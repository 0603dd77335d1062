"""`holo-lite evaluate`: the gate, from storyboards to scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holo_lite.commands.helping import Command
from holo_lite.commands.naming import free
from holo_lite.commands.options import (
    computing_options,
    lora_option,
    machine_options,
    picture_options,
    saving_options,
)
from holo_lite.commands.shared import load
from holo_lite.commands.stopping import token
from holo_lite.commands.talking import messages, talking_options
from holo_lite.commands.telling import note, tell

if TYPE_CHECKING:
    from holo_lite.evaluation.outcome import Outcome
    from holo_lite.evaluation.picture import Gallery
    from holo_lite.evaluation.report import ModelNames, QualityReport
    from holo_lite.evaluation.studio import Studio
    from holo_lite.settings import Options


@click.command(cls=Command, short_help="Measure how well a model keeps to storyboards.")
@click.option(
    "--model", type=click.Path(path_type=Path), help="Folder with the model's files.  [default: holo-tiny]"
)
@click.option("--baseline", type=click.Path(path_type=Path), help="A model to compare with, without options.")
@click.option("--storyboards", type=int, default=200, show_default=True, help="How many to make and score.")
@click.option("--ablate", help="Remove a part of the model: windows, representatives or double.")
@click.option("--out", type=click.Path(path_type=Path), help="The picture to write.  [default: evaluation.png]")
@click.option("--save", type=click.Path(path_type=Path), help="Write every storyboard's marks to this JSON file.")
@picture_options
@saving_options
@click.option(
    "--seed",
    "seeds",
    default="0",
    show_default=True,
    help="Which storyboards and which noise; several, such as 3,5,9, are pooled. Seed 0 is for development.",
)
@click.option("--fresh", is_flag=True, help="For figures to publish: three seeds that follow from the weights.")
@lora_option
@machine_options
@computing_options
@talking_options
def evaluate(
    model: Path | None,
    baseline: Path | None,
    storyboards: int,
    ablate: str | None,
    out: Path | None,
    save: Path | None,
    device: str,
    dtype: str,
    kernel: str,
    compute: str,
    fuse: str,
    loras: Any,
    seeds: str,
    fresh: bool,
    **said: Any,
) -> None:
    """Measure how well a model follows storyboards of the drawn world, from its pixels.

    Prints a table, then one line of JSON; a picture shows the expected frames next to the model's.
    """
    from holo_lite.evaluation.ablations import check_ablation
    from holo_lite.evaluation.report import ModelNames, check_place
    from holo_lite.evaluation.seeds import parse_seeds, reporting_seeds
    from holo_lite.evaluation.studio import Studio
    from holo_lite.opening.options import ModelOptions
    from holo_lite.settings import Options

    ablation = check_ablation(ablate) if ablate is not None else None
    out = out or free("evaluation", ".png")
    for place in filter(None, (out, save)):
        check_place(place)
    chosen = parse_seeds(seeds)
    plain = ModelOptions(device, dtype, kernel="sdpa", compute="bf16", fuse="off")
    studio = Studio(load(model, replace(plain, lora=loras, kernel=kernel, compute=compute, fuse=fuse)), ablation)
    other = Studio(load(baseline, plain)) if baseline is not None else None
    names = ModelNames(str(model or "holo-tiny"), str(baseline) if baseline else None, ablation)
    chosen = reporting_seeds(studio.pipeline.model.fingerprint) if fresh else chosen
    _judge(names, studio, other, storyboards, Options(**said), chosen, out, save)


def _judge(
    names: ModelNames,
    model: Studio,
    baseline: Studio | None,
    storyboards: int,
    options: Options,
    seeds: Sequence[int],
    out: Path,
    save: Path | None,
) -> None:
    """Run the gate and show its results; if interrupted, those it has so far."""
    from holo_lite.evaluation.outcome import StoryboardJudged
    from holo_lite.evaluation.picture import Gallery
    from holo_lite.evaluation.report import QualityReport
    from holo_lite.evaluation.run import evaluate
    from holo_lite.views.display import display
    from holo_lite.views.evaluation import show

    gallery = Gallery(("asked for, drawn", "model", *(("baseline",) if baseline else ())))
    outcomes: list[Outcome] = []
    events = evaluate(model, baseline, storyboards, options, seeds, token())
    try:
        with closing(events), display(messages()) as view:
            for event in events:
                show(event, view)
                if isinstance(event, StoryboardJudged):
                    gallery.add(event)
                    outcomes.append(event.outcome)
    finally:
        if outcomes:
            _show(QualityReport.of(names, outcomes, seeds), outcomes, gallery, out, save)


def _show(report: QualityReport, outcomes: list[Outcome], gallery: Gallery, out: Path, save: Path | None) -> None:
    from holo_lite.evaluation.report import save as write
    from holo_lite.views.evaluation import report_lines

    for line in report_lines(report):
        tell(line)
    gallery.save(out)
    note(f"picture  {out}")
    if save is not None:
        write(save, report, outcomes)
        note(f"saved    {save}")
    tell(report.to_json())
