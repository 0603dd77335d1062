"""How fast is a denoising step? Ours in every way, the reference's way, diffusers, and the floor, side by side.

    python benchmarks/speed.py WORK [--compare] [--keep] [--only 'bf16*'] [--part NAME]

A part is one way at one length: 33, 81 or 241 frames of 480x832 in five shots, both guidance branches, random
weights of the full shape. On a card each runs in a process of its own, which is ended after nine minutes; what is
finished stands in WORK and is not run again. WORK takes 45 GB of disk there. A table at the end, then one line of
JSON.

With --compare the result is put beside the last one kept for this device, in benchmarks/results; what became slower
than its own spread is named, and the exit code is 1. --keep makes this result the one that is kept.

Without a card, or with --small, everything runs at a size that takes a CPU a minute.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from resumable import Clock, Part, Result, Runner, write_record
from speed_cases import Bench, attempted, cells, weights
from speed_compare import Comparison, compare
from speed_own import STREAMED
from speed_products import products
from speed_scale import FRAMES, SHOTS, Scale
from speed_start import Command, start
from speed_targets import table, verdicts
from timing import device_name

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ALIKE = ("small", "device", "torch", "dtype", "model", "layers", "branches", "picture")
PROMPTS = (  # for the start: one to warm up with, one to time
    "[global caption] A red ball before a wall. [per shot caption] It rests. [shot cut] It rolls.",
    "[global caption] A blue cube before a wall. [per shot caption] It rests. [shot cut] It falls.",
)
START_FRAMES = ("--frames", "33")
WEIGHTS = {f"weights {scheme}": scheme for scheme in STREAMED}  # parts that write files


# --- parts -----------------------------------------------------------------------------------------


def parts(bench: Bench) -> dict[str, Part]:
    """All parts by name, in order; each says of which code it is."""
    found: dict[str, Part] = {name: partial(weights, bench, scheme) for name, scheme in WEIGHTS.items()}
    for frames in FRAMES:
        found |= {f"{name} @{frames}": partial(cell, bench, frames) for name, cell in cells(bench).items()}
    found["gemms"] = partial(products, bench.scale, bench.device)
    found["start"] = partial(started, bench)
    code = fingerprint()
    return {name: partial(_with_code, part, code) for name, part in found.items()}


def _with_code(part: Part, code: str) -> dict[str, Any]:
    return {**part(), "code": code}


def started(bench: Bench) -> dict[str, Any]:
    """From command to first step: at full size of a model in nf4, on a CPU of the one that is built in."""
    model, options = (None, ("--device", "cpu")) if bench.scale.small else (bench.folder("nf4"), START_FRAMES)
    place = bench.work / "start"
    place.mkdir(parents=True, exist_ok=True)
    found = attempted(lambda: start(Command(model, place, options), PROMPTS), foreign=True)
    return {"kind": "start", **found}


def chosen(found: Mapping[str, Part], patterns: Sequence[str]) -> dict[str, Part]:
    """The parts whose names fit one of the patterns, and the weights they need; all without patterns."""
    if not patterns:
        return dict(found)
    fitting = {name for name in found if any(fnmatchcase(name, pattern) for pattern in patterns)}
    needed = {name for name, scheme in WEIGHTS.items() if any(_needs(each, scheme) for each in fitting)}
    return {name: part for name, part in found.items() if name in fitting | needed}


def _needs(name: str, scheme: str) -> bool:
    """Whether a part runs the model that is written in a scheme."""
    return f"streamed from {scheme} " in name or (name == "start" and scheme == "nf4")


def fingerprint() -> str:
    """A hash of the code that is measured."""
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "holo_lite").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


# --- command ---------------------------------------------------------------------------------------


@click.command(help=__doc__)
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--part", help="Run this part only, here and now; `list` names them.")
@click.option("--only", multiple=True, help="Run the parts that fit this pattern, such as '*@33'.")
@click.option("--result", type=click.Path(path_type=Path), help="Where finished parts are kept.")
@click.option("--layers", type=int, help="Blocks that are run.  [default: as many as the card can]")
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
    fresh: bool,
    comparing: bool,
    keep: bool,
    kept: Path | None,
    quiet: bool,
    small: bool,
) -> None:
    device = torch.device("cpu" if small or not torch.cuda.is_available() else "cuda")
    path = result or work / f"speed-{slug(device_name(device))}.json"
    scale = Scale.tiny() if device.type == "cpu" else Scale.full(device, layers or layers_in(path))
    bench = Bench(work, device, scale, Clock(time.perf_counter()).say)
    runner = make_runner(bench, path, only)
    if part == "list":
        print("\n".join(runner.parts))
        return
    if fresh:
        begin_anew(runner)
    if part is not None:
        runner.run(part)
    else:
        runner.run_all()
    if quiet:
        return
    record = runner.result.read()
    comparison = compare_with(kept or kept_result(bench), record, runner.parts) if comparing else None
    report(record, comparison)
    if keep:
        write_record(kept or kept_result(bench), record)
    finish([] if part is not None else runner.missing, comparison)


def make_runner(bench: Bench, path: Path, only: Sequence[str]) -> Runner:
    """What runs the parts: each in a process of its own, at small scale in this one."""
    script = [sys.executable, str(Path(__file__).resolve()), str(bench.work), "--result", str(path), "--quiet"]
    own = [*script, "--layers", str(bench.scale.layers)]
    found = chosen(parts(bench), only)
    return Runner(Result(path, facts(bench), ALIKE), found, bench.say, None if bench.scale.small else own)


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
    """How many blocks a run that is gone on with has run so far."""
    return int(json.loads(path.read_text())["layers"]) if path.is_file() else None


def begin_anew(runner: Runner) -> None:
    """Drop the chosen parts that other code has measured, and all of them where none is missing. Weights stay."""
    path = runner.result.path
    if path.is_file() and runner.result.unlike(json.loads(path.read_text())) is not None:
        path.unlink()
    record, code = runner.result.read(), fingerprint()
    measured = {
        name: part for name, part in record["parts"].items() if name in runner.parts and name not in WEIGHTS
    }
    whole = not runner.missing
    dropped = {name for name, part in measured.items() if whole or part.get("code") != code}
    kept = {name: part for name, part in record["parts"].items() if name not in dropped}
    write_record(path, {**record, "parts": kept})


def kept_result(bench: Bench) -> Path:
    """The result that is kept for this device."""
    return RESULTS / f"speed-{slug(device_name(bench.device))}.json"


def slug(name: str) -> str:
    """A device's name as a part of a file's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def compare_with(path: Path, record: Mapping[str, Any], names: Mapping[str, Part]) -> Comparison:
    """What became slower since a result was kept."""
    kept = json.loads(path.read_text()) if path.is_file() else None
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
