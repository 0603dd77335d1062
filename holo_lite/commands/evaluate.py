"""`holo-lite evaluate`: the gate, from storyboards to scores."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holo_lite.commands.helping import Command
from holo_lite.commands.naming import free
from holo_lite.commands.options import (
    computing_options,
    devices_option,
    kappa_option,
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
    from holo_lite.evaluation.kinds import Directing, Kind
    from holo_lite.evaluation.outcome import Event, Outcome
    from holo_lite.evaluation.picture import Gallery
    from holo_lite.evaluation.report import ModelNames, QualityReport


@click.command(cls=Command, short_help="Measure how well a model keeps to storyboards.")
@click.option(
    "--model", type=click.Path(path_type=Path), help="Folder with the model's files.  [default: holo-tiny]"
)
@click.option("--baseline", type=click.Path(path_type=Path), help="A model to compare with, without options.")
@click.option("--storyboards", type=int, default=200, show_default=True, help="How many to make and score.")
@click.option("--ablate", help="Remove a part of the model: windows, representatives or double.")
@click.option("--retake", is_flag=True, help="Make a shot of every film again, with all others kept.")
@click.option("--extend", is_flag=True, help="Continue every film by three shots that remember it.")
@click.option("--chain", type=int, help="With --extend: so many continuations in a row.  [default: 1]")
@click.option("--reference", is_flag=True, help="Give drawn pictures of every character as references.")
@click.option("--pictures", type=int, help="With --reference: so many of each, 1 or 2.  [default: 2]")
@click.option("--first-frame", is_flag=True, help="Begin a shot of every film with a drawn picture.")
@click.option("--alone", is_flag=True, help="With these four: do not also make the same with nothing given.")
@kappa_option
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
@devices_option
@computing_options
@talking_options
def evaluate(
    model: Path | None,
    baseline: Path | None,
    storyboards: int,
    ablate: str | None,
    retake: bool,
    extend: bool,
    chain: int | None,
    reference: bool,
    pictures: int | None,
    first_frame: bool,
    alone: bool,
    out: Path | None,
    save: Path | None,
    device: str,
    devices: tuple[str, ...],
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

    Prints a table, then one line of JSON; a picture shows the expected frames next to the model's. With --retake,
    --extend, --reference or --first-frame, what is made with a film or a picture given is scored, next to the same
    with nothing given.
    """
    from holo_lite.errors import SettingsError
    from holo_lite.evaluation.ablations import check_ablation
    from holo_lite.evaluation.directing import evaluate_directing
    from holo_lite.evaluation.report import ModelNames, check_place
    from holo_lite.evaluation.run import evaluate as evaluate_model
    from holo_lite.evaluation.seeds import parse_seeds, reporting_seeds
    from holo_lite.evaluation.studio import Studio
    from holo_lite.opening.options import ModelOptions
    from holo_lite.settings import Options

    ablation = check_ablation(ablate) if ablate is not None else None
    if ablation is not None and devices:
        raise SettingsError("--ablate: changes the model on one device alone; leave out --devices")
    ways: dict[Kind, bool] = {
        "retake": retake,
        "extend": extend,
        "reference": reference,
        "first frame": first_frame,
    }
    directing = _directing(ways, chain, pictures, alone, baseline)
    out = out or free("evaluation", ".png")
    for place in filter(None, (out, save)):
        check_place(place)
    chosen = parse_seeds(seeds)
    plain = ModelOptions(device, dtype, kernel="sdpa", compute="bf16", fuse="off", devices=devices)
    studio = Studio(load(model, replace(plain, lora=loras, kernel=kernel, compute=compute, fuse=fuse)), ablation)
    other = Studio(load(baseline, plain)) if baseline is not None else None
    names = ModelNames(str(model or "holo-tiny"), str(baseline) if baseline else None, ablation, directing)
    chosen = reporting_seeds(studio.pipeline.model.fingerprint) if fresh else chosen
    if directing is None:
        events = evaluate_model(studio, other, storyboards, Options(**said), chosen, token())
    else:
        events = evaluate_directing(directing, studio, storyboards, Options(**said), chosen, token())
    _judge(names, events, chosen, out, save)


def _directing(
    ways: dict[Kind, bool], chain: int | None, pictures: int | None, alone: bool, baseline: Path | None
) -> Directing | None:
    """What becomes of each storyboard; None: nothing. Raises `SettingsError` for what does not go together."""
    from holo_lite.errors import SettingsError
    from holo_lite.evaluation.kinds import MOST_PICTURES, Directing

    wanted = [kind for kind, is_wanted in ways.items() if is_wanted]
    if len(wanted) > 1:
        one, other = (f"--{kind.replace(' ', '-')}" for kind in wanted[:2])
        raise SettingsError(f"{one} and {other} are two evaluations; give one of them")
    for name, value, kind in (("chain", chain, "extend"), ("pictures", pictures, "reference")):
        if value is not None and wanted != [kind]:
            raise SettingsError(f"--{name}: is for --{kind}; give both, or leave it out")
    if not wanted and alone:
        raise SettingsError("--alone: is for --retake, --extend, --reference and --first-frame; leave it out")
    if not wanted:
        return None
    if baseline is not None:
        raise SettingsError("--baseline: what is given is compared with the same model; leave it out")
    pictures = MOST_PICTURES if pictures is None else pictures
    return Directing(wanted[0], 1 if chain is None else chain, pictures, alone)


def _judge(
    names: ModelNames, events: Generator[Event, None, None], seeds: Sequence[int], out: Path, save: Path | None
) -> None:
    """Run the gate and show its results; if interrupted, those it has so far."""
    from holo_lite.evaluation.outcome import StoryboardJudged
    from holo_lite.evaluation.picture import Gallery
    from holo_lite.evaluation.report import QualityReport
    from holo_lite.views.display import display
    from holo_lite.views.evaluation import show

    gallery = Gallery(("asked for, drawn", "model", *filter(None, (names.beside,))))
    outcomes: list[Outcome] = []
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
