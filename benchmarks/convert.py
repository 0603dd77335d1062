"""Conversion at full size: one synthetic expert of 28.6 GB with every real key and shape.

    python -m benchmarks.convert WORK [--scheme nf4 --scheme int8] [--keep]

Writes the checkpoint into WORK, converts it, opens the result and runs a block, and prints a table, then one
line of JSON. Times are those of the parts a conversion consists of, measured in one run: reading (with the check
for NaN), quantizing, writing, hashing (of shards as they are written, and of the source), and the report (comparing
every tensor, and blocks at the end). WORK needs 45 GB of disk; the files are removed afterwards unless --keep is
given.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import click
import torch

from benchmarks.synthetic import real_shapes, write_checkpoint
from holo_lite.config import Defaults
from holo_lite.model.clip import Clip
from holo_lite.model.layers import TextRows
from holo_lite.model.load import load_expert
from holo_lite.model.positions import Positions
from holo_lite.schemes.registry import find
from holo_lite.story.shots import ShotLayout
from holo_lite.weights.folder import ModelFolder
from holo_lite.weights.shard import ShardWriter
from quantize import convert, job
from quantize.convert import ConversionFinished
from quantize.inputs import plan_conversion
from quantize.recipe import Recipe
from quantize.source import Source

LAYOUT = ShotLayout((0, 1), 2, 4, 6)
CPU = torch.device("cpu")


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--scheme", "schemes", multiple=True, default=("nf4", "int8"), show_default=True)
@click.option("--keep", is_flag=True, help="Leave the source and the results on the disk.")
def main(work: Path, schemes: tuple[str, ...], keep: bool) -> None:
    """Make the source, convert it under each scheme, and report."""
    folder = make_source(work / "source")
    rows = []
    for scheme in schemes:
        rows.append(measure(folder, work / scheme, scheme))
        if not keep:
            shutil.rmtree(work / scheme)
    if not keep:
        shutil.rmtree(work / "source")
    report(rows)


def make_source(folder: Path) -> ModelFolder:
    """Write one expert, unless it is there; the other files are not looked at."""
    expert = folder / "sparse_high_noise.safetensors"
    if not expert.is_file():
        write_checkpoint(expert, real_shapes("dit_14b"))
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text("{}")
    return ModelFolder(folder, "sparse", expert, expert, expert, expert, tokenizer, Defaults())


def measure(folder: ModelFolder, out: Path, scheme: str) -> dict[str, Any]:
    """Convert one expert and open it."""
    conversion = plan_conversion(folder, out, Recipe(scheme), device=CPU, roles=("high_noise",))
    start = time.perf_counter()
    with timers(scheme) as seconds, peak_anonymous() as peak:
        for event in job.run_conversion(conversion):
            last = event
    total = time.perf_counter() - start
    assert isinstance(last, ConversionFinished), "the last event of a conversion"
    source, result = folder.high_noise.stat().st_size, conversion.nbytes
    return {
        "scheme": scheme,
        "source_bytes": source,
        "result_bytes": result,
        "ratio": result / source,
        "seconds": {**seconds, "total": total},
        "seconds_without_report": total - seconds["report"],
        "MB_per_second": source / 1e6 / (total - seconds["report"]),
        "peak_rss_anon_bytes": peak(),
        **open_and_run(out / "high_noise"),
        "errors": last.quality.summary()["high_noise"],
        "block_errors": last.quality.blocks["high_noise"],
    }


def open_and_run(path: Path) -> dict[str, float]:
    """Seconds to open an expert, and to run its first block on a few tokens, weights read and unpacked."""
    start = time.perf_counter()
    model = load_expert(path, dtype=torch.bfloat16, device=CPU)
    opened = time.perf_counter()
    dim = model.config.dim
    x, rows = torch.randn(LAYOUT.tokens, dim).bfloat16(), torch.randn(512, dim).bfloat16()
    positions = Positions.of(LAYOUT, model.config.head_dim, CPU)
    with torch.inference_mode():
        model.blocks[0]([x], [TextRows(rows)], torch.randn(6, dim).bfloat16(), Clip(LAYOUT), positions)
    return {"open_seconds": opened - start, "block_seconds": time.perf_counter() - opened}


@contextmanager
def timers(scheme: str) -> Iterator[dict[str, float]]:
    """Time the parts of a conversion by wrapping the functions that do them."""
    seconds: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        wrap(stack, Source, "load", "reading", seconds)
        wrap(stack, type(find(scheme)), "pack", "quantizing", seconds)
        wrap(stack, ShardWriter, "add", "writing", seconds)
        wrap(stack, ShardWriter, "__exit__", "writing", seconds)
        wrap(stack, convert, "relative_error", "report", seconds)
        wrap(stack, job, "judge", "report", seconds)
        wrap(stack, convert, "hash_file", "hashing", seconds)
        time_shard_hashes(stack, seconds)
        yield seconds
    seconds["writing"] -= seconds["hashing of shards"]
    seconds["hashing"] += seconds.pop("hashing of shards")


def wrap(stack: ExitStack, owner: Any, name: str, part: str, seconds: dict[str, float]) -> None:
    """Count the seconds spent in a function, but not those in another one counted inside it."""
    original: Callable[..., Any] = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start, counted = time.perf_counter(), sum(seconds.values())
        try:
            return original(*args, **kwargs)
        finally:
            inside = sum(seconds.values()) - counted
            if part == "writing":
                inside = 0.0  # the hash within is taken out at the end
            seconds[part] += time.perf_counter() - start - inside

    stack.enter_context(mock.patch.object(owner, name, timed))


def time_shard_hashes(stack: ExitStack, seconds: dict[str, float]) -> None:
    """Give every shard that is written a hash that counts its seconds."""
    original = ShardWriter.__init__

    def init(self: ShardWriter, *args: Any) -> None:
        original(self, *args)
        self._digest = TimedHash(seconds)  # type: ignore[assignment]

    stack.enter_context(mock.patch.object(ShardWriter, "__init__", init))


class TimedHash:
    """A sha256 that counts its seconds."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._digest, self._seconds = hashlib.sha256(), seconds

    def update(self, piece: Any) -> None:
        """Hash more."""
        start = time.perf_counter()
        self._digest.update(piece)
        self._seconds["hashing of shards"] += time.perf_counter() - start

    def hexdigest(self) -> str:
        """The hash."""
        return str(self._digest.hexdigest())


@contextmanager
def peak_anonymous() -> Iterator[Callable[[], int]]:
    """Watch this process's anonymous memory, twenty times a second."""
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            peak[0] = max(peak[0], anonymous_bytes())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: peak[0]
    finally:
        stop.set()
        thread.join()


def anonymous_bytes() -> int:
    """RssAnon of this process."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def report(rows: list[dict[str, Any]]) -> None:
    """A table, then the same as one line of JSON."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    print(f"one expert of 14.29 billion numbers, {machine}, torch {torch.__version__}")
    head = ("scheme", "GB in", "GB out", "ratio", "min", "of it read", "quantize", "write", "hash", "report")
    print("".join(f"{name:>11}" for name in (*head, "peak GiB", "open s", "block s")))
    for row in rows:
        s = row["seconds"]
        cells = [row["scheme"], f"{row['source_bytes'] / 1e9:.2f}", f"{row['result_bytes'] / 1e9:.2f}"]
        cells += [f"{row['ratio']:.4f}", f"{s['total'] / 60:.2f}"]
        cells += [f"{s[part] / 60:.2f}" for part in ("reading", "quantizing", "writing", "hashing", "report")]
        cells += [
            f"{row['peak_rss_anon_bytes'] / 2**30:.2f}",
            f"{row['open_seconds']:.2f}",
            f"{row['block_seconds']:.2f}",
        ]
        print("".join(f"{cell:>11}" for cell in cells))
    print(json.dumps({"benchmark": "convert", "machine": machine, "torch": torch.__version__, "rows": rows}))


if __name__ == "__main__":
    main()
