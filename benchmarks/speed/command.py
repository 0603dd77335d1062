"""How fast is a denoising step? Ours in every way, the reference's way, diffusers, and the floor, side by side.

    python -m benchmarks.speed WORK [--compare] [--keep] [--only 'bf16*'] [--part NAME]

A part is one way at one length: 33, 81 or 241 frames of 480x832 in five shots, both guidance branches, random
weights of the full shape. On a card each runs in a process of its own, which is ended after nine minutes; what is
finished stands in WORK and is not run again. What the targets speak of is measured first. With --minutes nothing
begins after them, and the same command goes on. WORK takes some 25 GB of disk there. A table at the end, then one
line of JSON.

With --compare the result is put beside the last one kept for this device, in benchmarks/results; what became slower
than its own spread is named, and the exit code is 1. --keep makes this result the one that is kept.

Without a card, or with --small, everything runs at a size that takes a CPU a minute.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import RESULTS, ROOT, command
from benchmarks.resumable import (
    ENDLESS,
    Clock,
    Part,
    Result,
    Runner,
    by_worth,
    chosen,
    end_with_parent,
    fingerprint,
    write_record,
)
from benchmarks.speed.cases import Bench, attempted, cells, whole_model
from benchmarks.speed.compare import Comparison, compare
from benchmarks.speed.levers import levers
from benchmarks.speed.products import products
from benchmarks.speed.scale import FRAMES, SHOTS, Scale
from benchmarks.speed.start import Command, start
from benchmarks.speed.targets import JUDGED, table, verdicts
from benchmarks.timing import device_name, slug
from holo_lite import ModelOptions
from holo_lite.render.pipeline import Pipeline

CODE = ROOT / "holo_lite", ROOT / "benchmarks"
ALIKE = ("small", "device", "torch", "dtype", "model", "layers", "branches", "picture")
PROMPTS = (  # for the start: one to warm up with, one to time
    "[global caption] A red ball before a wall. [per shot caption] It rests. [shot cut] It rolls.",
    "[global caption] A blue cube before a wall. [per shot caption] It rests. [shot cut] It falls.",
)
START_FRAMES = ("--frames", "33")
LEVER_STEPS = 12  # at full size
ORDER = (*JUDGED, "*@241", "*@33", "*")  # of parts, by the first of these patterns that fits


# --- parts -----------------------------------------------------------------------------------------


def parts(bench: Bench) -> dict[str, Part]:
    """All parts by name, in order; each says of which code it is."""
    found: dict[str, Part] = {}
    for frames in FRAMES:
        found |= {f"{name} @{frames}": partial(cell, bench, frames) for name, cell in cells(bench).items()}
    found["gemms"] = partial(products, bench.scale, bench.device)
    found["start"] = partial(started, bench)
    found["levers"] = partial(saved, bench)
    code = fingerprint(*CODE)
    return {name: partial(_with_code, part, code) for name, part in by_worth(found, ORDER).items()}


def _with_code(part: Part, code: str) -> dict[str, Any]:
    return {**part(), "code": code}


def started(bench: Bench) -> dict[str, Any]:
    """From command to first step: at full size of a model in nf4, on a CPU of the one that is built in."""
    model, options = (None, ("--device", "cpu")) if bench.scale.small else (whole_model(bench), START_FRAMES)
    place = bench.work / "start"
    place.mkdir(parents=True, exist_ok=True)
    found = attempted(lambda: start(Command(model, place, options), PROMPTS), foreign=True)
    return {"kind": "start", **found}


def saved(bench: Bench) -> dict[str, Any]:
    """What levers save that leave forwards out, at the shortest length."""
    if bench.scale.small:
        return attempted(lambda: levers(Pipeline.load(options=ModelOptions(device="cpu", dtype="fp32"))))
    pipeline = Pipeline.load(whole_model(bench), ModelOptions(device=str(bench.device)))
    return attempted(lambda: levers(pipeline, rounds=1, frames=FRAMES[0], steps=LEVER_STEPS))


# --- command ---------------------------------------------------------------------------------------


@click.command(help=__doc__)
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--part", help="Run this part only, here and now; `list` names them.")
@click.option("--only", multiple=True, help="Run the parts that fit this pattern, such as '*@33'.")
@click.option("--result", type=click.Path(path_type=Path), help="Where finished parts are kept.")
@click.option("--layers", type=int, help="Blocks that are run.  [default: as many as the card can]")
@click.option("--minutes", type=float, default=ENDLESS, help="How long it may take; 0 only reports.")
@click.option("--fresh", is_flag=True, help="Measure anew what is finished, or was measured by other code.")
@click.option("--compare", "comparing", is_flag=True, help="Compare with the result that is kept for this device.")
@click.option("--keep", is_flag=True, help="Keep this result for this device.")
@click.option("--kept", type=click.Path(path_type=Path), help="The result that is kept.  [default: in results/]")
@click.option("--quiet", is_flag=True, hidden=True, help="Do not report at the end.")
@click.option("--small", is_flag=True, help="Run at a small size on the CPU.")
def main(
    work: Path,
    part: str | None,
    only: tuple[str, ...],
    result: Path | None,
    layers: int | None,
    minutes: float,
    fresh: bool,
    comparing: bool,
    keep: bool,
    kept: Path | None,
    quiet: bool,
    small: bool,
) -> None:
    clock = Clock(time.perf_counter(), minutes)
    device = torch.device("cpu" if small or not torch.cuda.is_available() else "cuda")
    path, kept = result or work / file_name(device), kept or RESULTS / file_name(device)
    layers = layers or layers_in(path) or layers_in(kept)
    bench = Bench(work, device, Scale.tiny() if device.type == "cpu" else Scale.full(device, layers), clock.say)
    runner = make_runner(bench, path, only, clock.left)
    if part == "list":
        print("\n".join(runner.parts))
        return
    if fresh:
        begin_anew(runner)
    if part is not None:
        if runner.apart is not None:
            end_with_parent()
        runner.run(part)
    elif minutes:
        runner.run_all()
    if quiet:
        return
    record = runner.result.read()
    comparison = compare_with(kept, record, runner.parts) if comparing else None
    report(record, comparison)
    if keep:
        write_record(kept, record)
    finish([] if part is not None else runner.missing, comparison)


def make_runner(bench: Bench, path: Path, only: Sequence[str], left: Callable[[], float]) -> Runner:
    """What runs the parts: each in a process of its own, at small scale in this one."""
    script = [*command("speed"), str(bench.work), "--result", str(path), "--quiet"]
    own = [*script, "--layers", str(bench.scale.layers)]
    found = chosen(parts(bench), only)
    return Runner(Result(path, facts(bench), ALIKE), found, bench.say, None if bench.scale.small else own, left)


def facts(bench: Bench) -> dict[str, Any]:
    """What all parts are measured on."""
    scale = bench.scale
    return {
        "benchmark": "speed",
        "small": scale.small,
        "device": device_name(bench.device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if bench.device.type == "cuda" else None,
        "dtype": str(scale.dtype).removeprefix("torch."),
        "model": asdict(scale.whole),
        "layers": scale.layers,
        "branches": scale.branches,
        "picture": [scale.height, scale.width],
        "shots": SHOTS,
        "threads": torch.get_num_threads() if bench.device.type == "cpu" else None,
    }


def layers_in(path: Path) -> int | None:
    """How many blocks were run for a result."""
    return int(json.loads(path.read_text(encoding="utf-8"))["layers"]) if path.is_file() else None


def begin_anew(runner: Runner) -> None:
    """Drop the chosen parts that failed or that other code has measured, and all of them where none is missing."""
    path = runner.result.path
    if path.is_file() and runner.result.unlike(json.loads(path.read_text())) is not None:
        path.unlink()
    record, code = runner.result.read(), fingerprint(*CODE)
    measured = {name: part for name, part in record["parts"].items() if name in runner.parts}
    whole = not runner.missing
    dropped = {name for name, part in measured.items() if whole or part.get("code") != code or "failed" in part}
    kept = {name: part for name, part in record["parts"].items() if name not in dropped}
    write_record(path, {**record, "parts": kept})


def file_name(device: torch.device) -> str:
    """Of this device's result."""
    return f"speed-{slug(device_name(device))}.json"


def compare_with(path: Path, record: Mapping[str, Any], names: Mapping[str, Part]) -> Comparison:
    """What became slower since a result was kept."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return compare(kept, record, names)


def report(record: Mapping[str, Any], comparison: Comparison | None) -> None:
    """A table of what is finished, the targets, what became slower, then one line of JSON."""
    for line in [*table(record), *(["", *comparison.lines] if comparison else [])]:
        print(line)
    slower = [asdict(change) for change in comparison.changes] if comparison else None
    print(json.dumps({**record, "targets": [asdict(each) for each in verdicts(record)], "slower": slower}))


def finish(missing: Sequence[str], comparison: Comparison | None) -> None:
    """End with a code that says how it went."""
    if missing:
        raise SystemExit("parts are missing; the same command tries them again")
    if comparison is not None and comparison.slower:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
