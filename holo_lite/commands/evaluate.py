"""`holo-lite evaluate`: the gate, from storyboards to scores."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from holo_lite.commands.options import (
    computing_options,
    lora_option,
    machine_options,
    picture_options,
    saving_options,
)
from holo_lite.commands.shared import free, load

if TYPE_CHECKING:
    from holo_lite.evaluation.picture import Gallery
    from holo_lite.evaluation.report import ModelNames
    from holo_lite.evaluation.run import Outcome
    from holo_lite.evaluation.studio import Studio
    from holo_lite.settings import Options

PLAINLY = {"kernel": "sdpa", "compute": "bf16", "fuse": "off"}  # so a baseline shows what the others cost
NARROW = 512  # the width of a model whose tensors are so small that threads only wait for each other


@click.command()
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
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed: other storyboards and noise.")
@lora_option
@machine_options
@computing_options
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
    **said: Any,
) -> None:
    """Measure how well a model follows storyboards of the drawn world, from its pixels.

    Prints a table, then one line of JSON; a picture shows the expected frames next to the model's.
    """
    from holo_lite.evaluation.ablations import check_ablation
    from holo_lite.evaluation.report import ModelNames, check_place
    from holo_lite.evaluation.studio import Studio
    from holo_lite.settings import Options

    ablation = check_ablation(ablate) if ablate is not None else None
    out = out or free("evaluation", ".png")
    for place in filter(None, (out, save)):
        check_place(place)
    computing = {"kernel": kernel, "compute": compute, "fuse": fuse}
    studio = Studio.open(load(model, device=device, dtype=dtype, lora=loras, **computing), ablation)
    other = Studio.open(load(baseline, device=device, dtype=dtype, **PLAINLY)) if baseline is not None else None
    names = ModelNames(str(model or "holo-tiny"), str(baseline) if baseline else None, ablation)
    _judge(names, studio, other, storyboards, Options(**said), out, save)


def _judge(
    names: ModelNames,
    model: Studio,
    baseline: Studio | None,
    storyboards: int,
    options: Options,
    out: Path,
    save: Path | None,
) -> None:
    """Run the gate and show its results; if interrupted, those it has so far."""
    import torch

    from holo_lite.evaluation.picture import Gallery
    from holo_lite.evaluation.run import StoryboardJudged, evaluate
    from holo_lite.views.evaluation import show
    from holo_lite.views.run import display

    if model.pipeline.sizes.config.dim < NARROW:
        torch.set_num_threads(1)
    gallery = Gallery(("asked for, drawn", "model", *(("baseline",) if baseline else ())))
    outcomes: list[Outcome] = []
    events = evaluate(model, baseline, storyboards, options)
    try:
        with closing(events), display(Console(stderr=True)) as view:
            for event in events:
                show(event, view)
                if isinstance(event, StoryboardJudged):
                    gallery.add(event)
                    outcomes.append(event.outcome)
    finally:
        if outcomes:
            _tell(names, outcomes, gallery, out, save)


def _tell(names: ModelNames, outcomes: list[Outcome], gallery: Gallery, out: Path, save: Path | None) -> None:
    from holo_lite.evaluation.report import QualityReport, save as write
    from holo_lite.views.evaluation import report_lines

    report = QualityReport.of(names, outcomes)
    for line in report_lines(report):
        click.echo(line)
    gallery.save(out)
    click.echo(f"picture  {out}", err=True)
    if save is not None:
        write(save, report, outcomes)
        click.echo(f"saved    {save}", err=True)
    click.echo(report.to_json())
