"""One clip by several ranks on this CPU, a thread each: how much faster than one, what travels, and memory.

    python -m benchmarks.ranks [--rounds 5] [--size 336x192] [--frames 81] [--out FILE]
    python -m benchmarks.ranks --cards WORK [--frames 241] [--size 832x480]

holo-tiny makes the steps of a clip in three shots, and of a clip in one. A row is a way to lay it over ranks:
guidance branches apart, shots apart, both, and one long shot that two ranks share. In each round every way takes
two steps of an expert, the first of which is not counted; so what else this machine does meets all of them.
`faster` is the median over the rounds of one rank's time by the way's. `by processor` is the same of processor
seconds, one rank's by those of the busiest of the ranks: a busy machine does not change it, and it knows nothing
of waiting. Below, for each way, bytes that a block sends as counted by those who send, beside the formula of
docs/several-cards.md, and the most bytes that a rank's tensors hold in a forward beside what its plan counts.
Prints tables, then one line of JSON.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import psutil
import torch
from live_bytes import LiveBytes
from ranks_here import CPU, at_once, meetings
from torch import Tensor

from benchmarks.fit.model import Model, write_model
from holo_lite import ModelOptions, Options, Pipeline
from holo_lite.events import StepDone
from holo_lite.model.compute import Compute
from holo_lite.model.layers import TextRows
from holo_lite.model.load import load_expert
from holo_lite.model.memory import working_set
from holo_lite.model.parts import Part
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.spread import Spread, choose_spread
from holo_lite.plan.traffic import sent_bytes
from holo_lite.ranks.meeting import Meeting
from holo_lite.render.job import Job
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.text.encoder_sizes import UMT5_XXL

SCENE = "[character1] is a red square. The setting is a plain grey wall."
THREE = Storyboard(f"{SCENE} This scene contains 3 shots.", tuple(Shot("Medium shot, still") for _ in range(3)))
ONE = Storyboard(f"{SCENE} This scene contains 1 shot.", (Shot("Medium shot, still"),))
SCHEME = "nf4"  # of the weights on cards
STEPS = 4  # two of each expert
COUNTED = 2  # the first of an expert opens files and takes memory


@dataclass(frozen=True)
class Way:
    """A way to lay a clip over ranks. apart: guidance branches may be."""

    name: str
    board: Storyboard
    ranks: int
    apart: bool = False


WAYS = (
    Way("branches", THREE, 2, apart=True),
    Way("shots", THREE, 2),
    Way("both", THREE, 4, apart=True),
    Way("a shared shot", ONE, 2),
)


@dataclass(frozen=True)
class Time:
    """Seconds of a step by the clock, and processor seconds of the busiest rank."""

    clock: float
    processor: float


def timed(pipeline: Pipeline, job: Job) -> Time:
    """The second step of a job, which is then given up."""
    processes = [psutil.Process(), *_others(pipeline)]
    before: list[float] = []
    with closing(pipeline.denoise(job)) as events:
        for event in events:
            if isinstance(event, StepDone) and event.done == COUNTED - 1:
                before = [_seconds(process) for process in processes]
            if isinstance(event, StepDone) and event.done == COUNTED:
                spent = [_seconds(each) - start for each, start in zip(processes, before, strict=True)]
                return Time(event.seconds, max(spent))
    raise AssertionError("a job has steps")


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _others(pipeline: Pipeline) -> list[psutil.Process]:
    ranks = pipeline.company.ranks if pipeline.company is not None else None
    return [psutil.Process(process.pid) for process in ranks._processes.values()] if ranks is not None else []


def laid_out(pipeline: Pipeline, way: Way, options: Options) -> Job:
    """A job, laid over the ranks in this way."""
    job, choice = pipeline.prepare(way.board, options), pipeline.choice
    if not choice.others:
        return job
    request = ClipRequest.of(job.settings)
    spread = choose_spread((choice.station, *choice.others), pipeline.model.sizes, request, throughout=way.apart)
    return replace(job, spread=spread).planned(spread.plans[0])


def opened(ranks: int, model: Path | None = None) -> Pipeline:
    """holo-tiny on so many ranks of this CPU, or a model on so many cards."""
    if model is None:
        return Pipeline.load(None, ModelOptions(dtype="fp32", devices=("cpu",) * ranks if ranks > 1 else ()))
    cards = tuple(f"cuda:{index}" for index in range(ranks))
    return Pipeline.load(model, ModelOptions(devices=cards) if ranks > 1 else ModelOptions(device=cards[0]))


def speeds(
    options: Options, rounds: int, ways: Sequence[Way], model: Path | None = None
) -> dict[str, list[tuple[Time, Time]]]:
    """For each way, pairs of one rank's time and the way's, a pair a round."""
    with ExitStack() as stack:
        counts = sorted({1, *(way.ranks for way in ways)})
        pipelines = {count: stack.enter_context(closing(opened(count, model))) for count in counts}
        found: dict[str, list[tuple[Time, Time]]] = {way.name: [] for way in ways}
        for _ in range(rounds):
            alone = {board: timed(pipelines[1], pipelines[1].prepare(board, options)) for board in (THREE, ONE)}
            for way in ways:
                here = timed(pipelines[way.ranks], laid_out(pipelines[way.ranks], way, options))
                found[way.name].append((alone[way.board], here))
        return found


def spreads(options: Options) -> Iterator[tuple[Way, Spread, Job, Pipeline]]:
    """Every way's parts, by a pipeline whose ranks are only counted with."""
    for way in WAYS:
        with closing(opened(way.ranks)) as pipeline:
            job = laid_out(pipeline, way, options)
            assert job.spread is not None, "there are several"
            yield way, job.spread, job, pipeline


def counted(spread: Spread, job: Job, pipeline: Pipeline) -> tuple[int, int, list[float]]:
    """Bytes that a block sends as counted and by the formula, and each rank's peak by what its plan counts."""
    request = ClipRequest.of(job.settings)
    clip, parts = request.clip(job.plan.chunks), spread.parts
    works = [partial(_forward, meet, parts, job, pipeline) for meet in meetings(parts, clip)]
    found = at_once(works)
    blocks, sizes = pipeline.model.sizes.config.num_layers, pipeline.model.sizes
    peaks = []
    for part, plan, (_, live) in zip(parts, spread.plans, found, strict=True):
        here = replace(request, part=part).clip(plan.chunks)
        planned = working_set(
            sizes.config,
            here,
            bytes_per_number=sizes.bytes_per_number,
            branches=len(part.branches) if plan.joint else 1,
            device="cpu",
        )
        peaks.append(live / planned.peak)
    return sum(sent for sent, _ in found) // blocks, sent_bytes(sizes, request, parts), peaks


def _forward(meet: Any, parts: Sequence[Part], job: Job, pipeline: Pipeline) -> tuple[int, int]:
    """Bytes sent, and the most that tensors held, in one rank's forward."""
    meeting: Meeting = meet()
    part, config = parts[meeting.place.rank], pipeline.model.sizes.config
    path = pipeline.model.folder.high_noise
    model = load_expert(path, dtype=torch.float32, device=CPU, compute=Compute(exchange=meeting))
    clip = part.of_clips(job.clip)(job.settings.layout, job.settings.attention, job.plan.chunks)
    rows = torch.randn(512, config.text_dim)
    latents = _latents(job, config.in_dim)
    with torch.inference_mode(), LiveBytes() as live:
        windows = tuple(torch.arange(512) for _ in range(clip.layout.shots))
        texts = [TextRows(model.embed_text(rows), windows) for _ in part.branches]
        model(latents, torch.tensor(900.0), texts, clip)
    return meeting.sent, live.peak


def _latents(job: Job, channels: int) -> Tensor:
    layout = job.settings.layout
    return torch.randn(channels, layout.latent_frames, job.settings.height // 8, job.settings.width // 8)


def row(name: str, pairs: Sequence[tuple[Time, Time]]) -> dict[str, Any]:
    """A way's figures."""
    return {
        "way": name,
        "alone_s": statistics.median(alone.clock for alone, _ in pairs),
        "step_s": statistics.median(here.clock for _, here in pairs),
        "faster": statistics.median(alone.clock / here.clock for alone, here in pairs),
        "by_processor": statistics.median(alone.processor / here.processor for alone, here in pairs),
    }


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=5)
@click.option("--size", default="336x192", help="Width and height in pixels.")
@click.option("--frames", type=int, default=81)
@click.option("--cards", type=click.Path(path_type=Path), help="On this machine's cards; a model is written there.")
@click.option("--out", type=click.Path(path_type=Path), help="Keep the figures in this file, too.")
def main(rounds: int, size: str, frames: int, cards: Path | None, out: Path | None) -> None:
    """Measure, and print tables and a line of JSON."""
    width, height = map(int, size.split("x"))
    options = Options(steps=STEPS, frames=frames, width=width, height=height)
    ways, model, busy = WAYS, None, os.getloadavg()[0]
    if cards is not None:
        ways = tuple(way for way in WAYS if way.ranks <= torch.cuda.device_count())
        model = cards / f"whole-{SCHEME}"
        write_model(model, SCHEME, Model(encoder=UMT5_XXL), lambda said: click.echo(said, err=True))
    else:
        torch.set_num_threads(1)
    rows = [row(name, pairs) for name, pairs in speeds(options, rounds, ways, model).items()]
    lines = list(speed_table(ways, rows))
    if cards is None:
        lines += ["", *count_table(options, rows)]
    load = f"{os.cpu_count()} processors, load {busy:.1f} at the start and {os.getloadavg()[0]:.1f} at the end"
    lines += ["", f"{rounds} rounds, {frames} frames of {size}; {load}"]
    facts = {"frames": frames, "size": size, "rounds": rounds, "load": load}
    lines.append(json.dumps({"benchmark": "ranks", **facts, "rows": rows}))
    for line in lines:
        print(line)
    if out is not None:
        out.write_text("\n".join([*lines, ""]), encoding="utf-8")


def speed_table(ways: Sequence[Way], rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """How fast each way is."""
    yield f"{'way':16}{'ranks':>6}{'alone s':>10}{'step s':>10}{'faster':>9}{'by processor':>14}"
    for way, found in zip(ways, rows, strict=True):
        times = f"{found['alone_s']:10.2f}{found['step_s']:10.2f}"
        yield f"{way.name:16}{way.ranks:6}{times}{found['faster']:9.2f}{found['by_processor']:14.2f}"


def count_table(options: Options, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What each way sends and holds; noted in its row, too."""
    yield f"{'way':16}{'sent a block':>14}{'by the formula':>16}  peak by plan, each rank"
    for found, (way, spread, job, pipeline) in zip(rows, spreads(options), strict=True):
        sent, formula, peaks = counted(spread, job, pipeline)
        found |= {"sent": sent, "formula": formula, "peaks": peaks}
        yield f"{way.name:16}{sent:14}{formula:16}  {', '.join(f'{peak:.3f}' for peak in peaks)}"


if __name__ == "__main__":
    main()
