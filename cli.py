"""The command line: a thin skin over `holo_lite`.

It parses, calls, and turns the library's errors into one line and exit code 2. Nothing heavy is imported
before a command needs it, so that help is instant.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from holo_lite import __version__
from holo_lite.errors import HoloError, SettingsError

if TYPE_CHECKING:
    from holo_lite.evaluation.picture import Gallery
    from holo_lite.evaluation.report import Names
    from holo_lite.evaluation.run import Outcome
    from holo_lite.evaluation.studio import Studio
    from holo_lite.pipeline import Pipeline
    from holo_lite.settings import Options
    from holo_lite.story.storyboard import Storyboard
    from quantize.convert import Conversion

INTERRUPTED = 130
MISTAKE = 2
NARROW = 512  # the width of a model whose tensors are so small that threads only wait for each other
TINY_NOTICE = (
    "No --model was given: this is holo-tiny, built in. It goes the whole way of the real model, but knows only "
    "coloured shapes before a wall, as `holo-lite demo` tells them. README.md says how to get the real weights."
)


def main() -> None:
    """Run the command line; the process's exit code says how it went."""
    try:
        code = holo_lite.main(prog_name="holo-lite", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = MISTAKE
    except click.ClickException as error:
        code = _mistake(f"{error.format_message()} {_where_to_read(error)}")
    except HoloError as error:
        code = _mistake(str(error))
    except OSError as error:
        code = _mistake(f"{error.filename or 'a file'}: {error.strerror or error}; check its path and the disk")
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing half-written was left", err=True)
        code = INTERRUPTED
    sys.exit(code)


def _mistake(message: str) -> int:
    """Say on one line what is wrong."""
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return MISTAKE


def _where_to_read(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"See '{context.command_path if context else 'holo-lite'} --help'."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="holo-lite")
def holo_lite() -> None:
    """Whole multi-shot scenes from a storyboard, on the graphics card you have."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    for noisy in ("bitsandbytes", "diffusers", "transformers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def _cuts(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"--cuts '{text}': give frame numbers such as 49,97,145") from None


Command = Callable[..., Any]


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Options that several commands share, in the order in which help shows them."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_machine_options = _options(
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option("--dtype", default="auto", show_default=True, help="auto, bf16 or fp32."),
)
_timing_options = _options(
    click.option("--frames", type=int, help="Length in frames; the nearest 4t+1 is made."),
    click.option("--cuts", callback=_cuts, help="First frame of every shot but the first, such as 49,97."),
    click.option("--fps", type=float, help="Frames per second of the video."),
)
_picture_options = _options(
    click.option("--height", type=int, help="In pixels, a multiple of 16."),
    click.option("--width", type=int, help="In pixels, a multiple of 16."),
    click.option("--steps", type=int, help="Denoising steps."),
    click.option(
        "--cfg", type=float, help="How strongly the prompt is followed; 1 leaves out the negative prompt."
    ),
)
_profile_option = click.option(
    "--profile", default="auto", show_default=True, help="auto, a name that `profiles` lists, or a TOML file."
)
_attention_option = click.option("--attention", help="sparse or full.  [default: that of the model's files]")


@holo_lite.command()
@click.argument("storyboard")
@click.option(
    "--model", type=click.Path(path_type=Path), help="Folder with the model's files.  [default: built in]"
)
@click.option("--out", type=click.Path(path_type=Path), help="The mp4 to write.  [default: named after STORYBOARD]")
@_timing_options
@_picture_options
@click.option("--seed", type=int, help="The same seed and settings give the same video.  [default: 0]")
@click.option("--negative", help="What should not be seen.  [default: the model's published one]")
@_attention_option
@_profile_option
@_machine_options
def generate(
    storyboard: str,
    model: Path | None,
    out: Path | None,
    device: str,
    dtype: str,
    profile: str,
    **said: Any,
) -> None:
    """Make a video of STORYBOARD: a .toml, .json or .txt file, or a prompt in quotes.

    What is said here goes before the storyboard, and that before the model's defaults.
    """
    from holo_lite.settings import Options, check_attention
    from holo_lite.story.files import load_storyboard

    attention = check_attention(said["attention"]) if said["attention"] is not None else None
    board = load_storyboard(storyboard)
    pipeline = _load(model, device=device, dtype=dtype, attention=attention, profile=profile)
    _run(pipeline, board, out or _named_after(storyboard), Options(**{**said, "attention": attention}))


@holo_lite.command()
@click.argument("path", type=click.Path(path_type=Path))
def inspect(path: Path) -> None:
    """Say what PATH is: a checkpoint, a model folder, a storyboard or a video.

    Of a video it prints the storyboard and the command that make it again.
    """
    from holo_lite.inspection import inspect as describe

    for line in describe(path):
        click.echo(line)


@holo_lite.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder to write into.",
)
@_machine_options
def demo(out: Path, device: str, dtype: str) -> None:
    """Make a video of five shots and its contact sheet with the built-in model."""
    from holo_lite.demo import asked, storyboard
    from holo_lite.settings import Options

    board = storyboard()
    _run(_load(None, device=device, dtype=dtype), board, out / "demo.mp4", Options())
    click.echo("asked for:")
    for line in asked(board):
        click.echo(line)


@holo_lite.command()
@click.option(
    "--model", type=click.Path(path_type=Path), help="Folder with the model's files.  [default: built in]"
)
@click.option("--baseline", type=click.Path(path_type=Path), help="Another model, for scores as a ratio of its.")
@click.option("--storyboards", type=int, default=200, show_default=True, help="How many to make and read.")
@click.option("--ablate", help="Take out of the model: windows, representatives or double.")
@click.option("--out", type=click.Path(path_type=Path), help="The picture to write.  [default: evaluation.png]")
@click.option("--save", type=click.Path(path_type=Path), help="A JSON file for every storyboard's marks.")
@_picture_options
@click.option("--seed", type=int, default=0, show_default=True, help="Other storyboards, other noise.")
@_machine_options
def evaluate(
    model: Path | None,
    baseline: Path | None,
    storyboards: int,
    ablate: str | None,
    out: Path | None,
    save: Path | None,
    device: str,
    dtype: str,
    **said: Any,
) -> None:
    """Measure how well a model keeps to storyboards of the drawn world, from its pixels.

    Prints a table, then one line of JSON; a picture shows what was asked for beside what was made.
    """
    from holo_lite.evaluation.ablations import check_ablation
    from holo_lite.evaluation.report import Names, check_place
    from holo_lite.evaluation.studio import Studio
    from holo_lite.settings import Options

    ablation = check_ablation(ablate) if ablate is not None else None
    out = out or _free("evaluation", ".png")
    for place in filter(None, (out, save)):
        check_place(place)
    studio = Studio.open(_load(model, device=device, dtype=dtype), ablation)
    other = Studio.open(_load(baseline, device=device, dtype=dtype)) if baseline is not None else None
    names = Names(str(model or "built in"), str(baseline) if baseline else None, ablation)
    _judge(names, studio, other, storyboards, Options(**said), out, save)


@holo_lite.command()
def profiles() -> None:
    """List the profiles, with what each can run of HoloCine-14B."""
    from holo_lite.plan.machine import this_machine
    from holo_lite.plan.report import abilities
    from holo_lite.plan.view import ability_lines

    for line in ability_lines(abilities(this_machine())):
        click.echo(line)


@holo_lite.command()
@click.argument("storyboard")
@click.option(
    "--model", type=click.Path(path_type=Path), help="Folder with the model's files.  [default: HoloCine-14B]"
)
@_profile_option
@click.option("--gpu", help="A card to plan for instead of this machine, such as 'RTX 4090'.")
@_timing_options
@_picture_options
@_attention_option
def plan(storyboard: str, model: Path | None, profile: str, gpu: str | None, **said: Any) -> None:
    """Say what a run of STORYBOARD would need, how long it may take, and what else would fit.

    Needs no graphics card and loads no weights.
    """
    from holo_lite.places import cache_folder
    from holo_lite.plan.machine import this_machine
    from holo_lite.plan.report import report
    from holo_lite.plan.view import report_lines
    from holo_lite.settings import Options, check_attention
    from holo_lite.story.files import load_storyboard

    attention = check_attention(said["attention"]) if said["attention"] is not None else None
    options = Options(**{**said, "attention": attention})
    found = report(
        load_storyboard(storyboard),
        options,
        this_machine(),
        model=model,
        profile=profile,
        gpu=gpu,
        rates=cache_folder(),
    )
    for line in report_lines(found):
        click.echo(line)


def _adapters(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> dict[str, list[tuple[Path, float]]]:
    """Adapters by expert, from options such as high=FILE:0.8."""
    found: dict[str, list[tuple[Path, float]]] = {}
    for text in texts:
        from quantize.lora import parse_lora_option

        noise, _sign, file = text.partition("=")
        if noise not in {"high", "low"} or not file:
            raise SettingsError(f"--lora '{text}': write high=FILE or low=FILE, with :STRENGTH behind it if not 1")
        found.setdefault(f"{noise}_noise", []).append(parse_lora_option(file))
    return found


@holo_lite.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--scheme", help="bf16, int8, nf4, qint8, qint4 or qfloat8.  [default: nf4]")
@click.option("--recipe", type=click.Path(path_type=Path), help="TOML with schemes by component and tensor.")
@click.option(
    "--lora", "loras", multiple=True, callback=_adapters, help="high=FILE[:STRENGTH] or low=…; repeatable."
)
@click.option("--attention", help="sparse or full experts, where both are there.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--verify", is_flag=True, help="Hash the files of a finished model again instead.")
def quantize(source: Path, out: Path | None, *, verify: bool, **said: Any) -> None:
    """Convert the released files in SOURCE, once, to a smaller model in the folder OUT.

    Cut off at any moment, the same command goes on where it was.
    """
    from holo_lite.console import display
    from quantize.convert import verify as hash_again
    from quantize.job import run
    from quantize.view import show

    if out is None and not verify:
        raise click.UsageError("give the folder to write into, behind the one with the released files.")
    events = hash_again(out or source) if verify else run(_plan(source, out or source, **said))
    try:
        with closing(events), display(Console(stderr=True)) as view:
            for event in events:
                show(event, view)
    except KeyboardInterrupt:
        click.echo("type the same command to go on from here", err=True)
        raise


def _plan(
    source: Path,
    out: Path,
    *,
    scheme: str | None,
    recipe: Path | None,
    attention: str | None,
    device: str,
    **said: Any,
) -> Conversion:
    """Decide a conversion, and say what it will read and write."""
    from holo_lite.device import pick_device
    from holo_lite.settings import check_attention
    from holo_lite.weights.folder import open_folder
    from quantize.inputs import plan_conversion
    from quantize.job import preflight
    from quantize.recipe import Recipe, load_recipe

    variant = check_attention(attention) if attention is not None else None
    chosen = load_recipe(recipe, scheme) if recipe is not None else Recipe(scheme or "nf4")
    conversion = plan_conversion(open_folder(source, variant), out, chosen, device=pick_device(device), **said)
    for line in preflight(conversion):
        click.echo(line, err=True)
    return conversion


def _load(model: Path | None, **options: Any) -> Pipeline:
    from holo_lite.pipeline import Pipeline

    return Pipeline.load(model, **options)


def _run(pipeline: Pipeline, board: Storyboard, out: Path, options: Any) -> None:
    import torch

    from holo_lite.console import display, show

    with closing(pipeline.generate(board, out, options)) as events, display(Console(stderr=True)) as view:
        if pipeline.is_tiny:
            view.say(TINY_NOTICE)
            torch.set_num_threads(1)  # its tensors are so small that threads only wait for each other
        for event in events:
            show(event, view)


def _judge(
    names: Names,
    model: Studio,
    baseline: Studio | None,
    storyboards: int,
    options: Options,
    out: Path,
    save: Path | None,
) -> None:
    """Run the gate and show what it found; cut off, what it had found till then."""
    import torch

    from holo_lite.console import display
    from holo_lite.evaluation.picture import Gallery
    from holo_lite.evaluation.run import Judged, evaluate
    from holo_lite.evaluation.view import show

    if model.pipeline.sizes.config.dim < NARROW:
        torch.set_num_threads(1)
    gallery = Gallery(("asked for, drawn", "model", *(("baseline",) if baseline else ())))
    outcomes: list[Outcome] = []
    events = evaluate(model, baseline, storyboards, options)
    try:
        with closing(events), display(Console(stderr=True)) as view:
            for event in events:
                show(event, view)
                if isinstance(event, Judged):
                    gallery.add(event)
                    outcomes.append(event.outcome)
    finally:
        if outcomes:
            _tell(names, outcomes, gallery, out, save)


def _tell(names: Names, outcomes: list[Outcome], gallery: Gallery, out: Path, save: Path | None) -> None:
    from holo_lite.evaluation.report import Report
    from holo_lite.evaluation.report import save as write
    from holo_lite.evaluation.view import report_lines

    report = Report.of(names, outcomes)
    for line in report_lines(report):
        click.echo(line)
    gallery.save(out)
    click.echo(f"picture  {out}", err=True)
    if save is not None:
        write(save, report, outcomes)
        click.echo(f"saved    {save}", err=True)
    click.echo(report.to_json())


def _named_after(storyboard: str) -> Path:
    """video.mp4 for a prompt, else the storyboard's own name, in the folder one stands in.

    Numbered where a video or picture of that name is there: what took hours is not written over unasked.
    """
    return _free(Path(storyboard).stem if os.path.isfile(storyboard) else "video", ".mp4")


def _free(stem: str, suffix: str) -> Path:
    """The first of stem, stem-2, stem-3, … that neither a file with this suffix nor a picture bears."""
    names = chain([Path(f"{stem}{suffix}")], (Path(f"{stem}-{number}{suffix}") for number in count(2)))
    return next(name for name in names if not (name.exists() or name.with_suffix(".png").exists()))


if __name__ == "__main__":
    main()
