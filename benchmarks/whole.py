"""The whole way at full size: the real command on a model with the released one's shapes, from prompt to video.

    python -m benchmarks.whole WORK [--scheme nf4] [--keep] [--frames 9 --height 128 --width 128 --steps 4 ...]

Nothing is left out and nothing is scaled: two experts of 40 blocks, the text encoder, the VAE, random weights. What
is seen is noise; when phases began, how long steps took, and the most memory of the process are not. What is not
known here goes to `holo-lite generate`. In nf4 it takes 12 GB of disk in WORK, and on a CPU 24 GB of memory. A
table, then one line of JSON.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import psutil
import torch

from benchmarks import RESULTS
from benchmarks.fit.model import Model, write_model
from benchmarks.resumable import write_record
from benchmarks.speed.start import MARK, Command, begin
from benchmarks.timing import device_name, slug
from holo_lite.text.encoder_sizes import UMT5_XXL

PROMPT = "[global caption] A red ball before a wall. [per shot caption] It rests. [shot cut] It rolls."
LOOK = 0.1  # seconds between two looks at a process's memory
CLIP = ("--frames", "9", "--height", "128", "--width", "128")


@dataclass
class Watched:
    """A run's events, seconds after its command, with what each told besides; and the most memory it had."""

    events: list[tuple[str, float, Any]] = field(default_factory=list)
    peak: int = 0

    def hear(self, line: str, begun: float) -> None:
        """Note what a line of its output says."""
        name, when, told = json.loads(line.removeprefix(MARK))
        self.events.append((name, when - begun, told))

    def look_at(self, child: subprocess.Popen[str]) -> None:
        """Note the most memory it has, pages of files that it has mapped included, until it ends."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(child.pid)
            while child.poll() is None:
                self.peak = max(self.peak, process.memory_info().rss)
                time.sleep(LOOK)

    def figures(self) -> dict[str, Any]:
        """When phases began, seconds of each step, and bytes as planned and as measured."""
        begun = {told: when for name, when, told in self.events if name == "PhaseStarted"}
        steps = [begun["denoise"], *(when for name, when, _ in self.events if name == "StepDone")]
        planned = next(told for name, _, told in self.events if name == "Resolved")
        return {
            "resolved": next(when for name, when, _ in self.events if name == "Resolved"),
            "phases": begun,
            "steps": [after - before for before, after in pairwise(steps)],
            "finished": next(when for name, when, _ in self.events if name == "Finished"),
            "planned_bytes": max(planned.values()),
            "process_bytes": self.peak,
        }


def run(command: Command) -> Watched:
    """Make one video of a prompt that nothing is known of. Raises `RuntimeError` where none comes."""
    shutil.rmtree(command.work / "cache", ignore_errors=True)
    watched, now = Watched(), time.time()
    child = begin(command, PROMPT)
    assert child.stdout is not None
    try:
        threading.Thread(target=watched.look_at, args=(child,), daemon=True).start()
        for line in child.stdout:
            if line.startswith(MARK):
                watched.hear(line, now)
            else:
                click.echo(line.rstrip(), err=True)
        code = child.wait()
    finally:
        child.kill()
        child.wait()
    if code:
        raise RuntimeError(f"holo-lite generate ended with code {code}")
    return watched


def table(record: dict[str, Any]) -> list[str]:
    """The record as lines."""
    steps = ", ".join(f"{seconds:.1f}" for seconds in record["steps"])
    phases = ", ".join(f"{name} {when:.1f}" for name, when in record["phases"].items())
    return [
        f"{record['device']}, torch {record['torch']}, both experts and the text encoder in {record['scheme']}",
        f"generate {' '.join(record['options'])}",
        f"seconds after the command   decided {record['resolved']:.1f}, {phases}, done {record['finished']:.1f}",
        f"seconds of each step        {steps}",
        f"memory                      planned {record['planned_bytes'] / 2**30:.2f} GiB of tensors on the device,"
        f" the process had {record['process_bytes'] / 2**30:.2f} GiB",
    ]


@click.command(help=__doc__, context_settings={"ignore_unknown_options": True})
@click.argument("work", type=click.Path(path_type=Path))
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option("--scheme", default="nf4", show_default=True, help="What the weights are stored in.")
@click.option("--keep", is_flag=True, help="Keep the result for this device, in results/.")
def main(work: Path, options: tuple[str, ...], scheme: str, keep: bool) -> None:
    options, device = options or CLIP, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = work / f"whole-{scheme}"
    write_model(model, scheme, Model(encoder=UMT5_XXL), lambda said: click.echo(said, err=True))
    record = {
        "benchmark": "whole",
        "device": device_name(device),
        "torch": torch.__version__,
        "scheme": scheme,
        "options": options,
        **run(Command(model, work, options)).figures(),
    }
    print("\n".join(table(record)))
    print(json.dumps(record))
    if keep:
        write_record(RESULTS / f"whole-{slug(device_name(device))}.json", record)


if __name__ == "__main__":
    main()
