"""Does every run survive? Short generations, one after the other in one process, with faults put into them.

    python -m benchmarks.soak [--runs 200] [--seed 0] [--keep]

A fifth of the runs is left alone. The others, in equal parts, meet a kill (SIGKILL to the command itself, at any
moment or around any write), a full disk, memory that runs out, or a corrupt block: bytes of the model's weights or
of the run's own files that are not what was written. Every one must end with the very bits of the same film made
undisturbed, in latents, video and contact sheet, and lose one step at most; where memory ran out, latents made in
smaller pieces may differ by 1e-5 of themselves. What does not is lost, and the exit code is 1. After every run
memory, open files and threads are counted, and files that are left behind.

Films are small scenes of the drawn world, made by a copy of the built-in model. A table at the end, then one line
of JSON; --keep keeps it in benchmarks/results. It is one process by nature, so what is cut off begins anew.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that only wait for each other; killed processes do the same

import click
import numpy as np
import torch

from benchmarks import RESULTS
from benchmarks.resumable import Clock, write_record
from benchmarks.soak.disk import Disk
from benchmarks.soak.faults import Fault, corrupt_block, disk_full, killed, nothing, out_of_memory
from benchmarks.soak.film import Film, Reference, draw_film, files_of
from benchmarks.soak.memory import Allocations, Growth
from benchmarks.soak.report import Outcome, figures, table
from benchmarks.soak.run import CACHE, TOLERANCE, LostError, Run, cache_in
from benchmarks.timing import device_name, slug
from holo_lite import ModelOptions
from holo_lite.events import StepDone
from holo_lite.render.pipeline import Pipeline
from holo_lite.runs.folder import RunFolder
from holo_lite.system.device import pick_device
from holo_lite.tiny.model import tiny_model

RUNS_A_FILM = 10
AT_A_TIME = 2  # killed processes
WARM_UP = 5  # one in so many runs, the first, fills caches and the allocator's pools
LONGEST = 400  # characters of an error that nobody expected
TEMPORARY = "temporary"  # a folder for what would go into the system's
DRAFT = ".part"  # ends the names of files that a killed process may leave
FAULTS: dict[str, Fault] = {
    "none": nothing,
    "kill": killed,
    "disk full": disk_full,
    "out of memory": out_of_memory,
    "corrupt block": corrupt_block,
}


@dataclass(frozen=True)
class Soak:
    """What all runs share: an opened model, films with their undisturbed results, folders."""

    work: Path
    pipeline: Pipeline
    films: Sequence[tuple[Film, Reference]]
    seed: int

    @classmethod
    def begin(cls, work: Path, films: int, seed: int, device: torch.device) -> Soak:
        """Copy and open the model, draw films and make each undisturbed.

        Raises `LostError` if one comes out differently when it is saved.
        """
        model = shutil.copytree(tiny_model(), work / "model")
        pipeline, rng = Pipeline.load(model, ModelOptions(device=str(device))), np.random.default_rng(seed)
        drawn = [draw_film(work / f"film-{number}.json", rng) for number in range(films)]
        return cls(work, pipeline, [(film, undisturbed(pipeline, film, work)) for film in drawn], seed)

    def endure(self, number: int, fault: str) -> Outcome:
        """Make one film with one fault."""
        rng = Random(f"{self.seed} {number}")
        film, reference = rng.choice(self.films)
        folder = self.work / f"run-{number}"
        folder.mkdir()
        run = Run(self.pipeline, film, reference, folder, self.work / "known", rng)
        start, what, lost = time.perf_counter(), None, ""
        try:
            what = FAULTS[fault](run)
            run.judge()
        except LostError as error:
            lost = str(error)
        except Exception:  # noqa: BLE001 - whatever else comes out of a run is a lost run
            lost = " ".join(traceback.format_exc().split())[-LONGEST:]
        outcome = self._outcome(run, number, fault, what, lost, time.perf_counter() - start)
        shutil.rmtree(folder)
        return outcome

    def _outcome(self, run: Run, number: int, fault: str, what: str | None, lost: str, seconds: float) -> Outcome:
        excused = {run.state.path.name} if run.ended_by_kill else set()
        drafts = [name for name in run.litter if fault == "kill" and (name.endswith(DRAFT) or name in excused)]
        return Outcome(
            number=number,
            fault=fault,
            what=what,
            resumed=run.ledger.resumed,
            told=tuple(run.told),
            seconds=seconds,
            litter=tuple(name for name in run.litter if name not in drafts) if not lost else (),
            drafts=len(drafts),
            error=run.error,
            lost=lost,
        )


def undisturbed(pipeline: Pipeline, film: Film, work: Path) -> Reference:
    """Make a film with nobody in the way; then once more, saved, to count what it consists of.

    Raises `LostError` if the second is another film.
    """
    out = work / "reference" / "a.mp4"
    with cache_in(work / "known"):
        events = list(pipeline.generate(film.board, out, film.options))
    latents = [event.progress.latents for event in events if isinstance(event, StepDone)][-1]
    video, sheet = files_of(out)
    with cache_in(out.parent / CACHE), Disk() as disk, Allocations() as memory:
        saved = pipeline.generate(film.board, out, film.options, run=RunFolder.beside(out).path)
        count = sum(memory.hear(event) is None for event in saved)
    if files_of(out) != (video, sheet):
        raise LostError(f"{film.path.name} is another film when it is saved")
    shutil.rmtree(out.parent)
    return Reference(latents, video, sheet, tuple(disk.calls), memory.made, count)


def in_turn(kinds: Sequence[str]) -> Iterator[list[int]]:
    """Runs by number, from 1. Those that are killed, in processes of their own, come two at a time."""
    waiting: list[int] = []
    for number, kind in enumerate(kinds, start=1):
        if kind != "kill":
            yield [number]
            continue
        waiting.append(number)
        if len(waiting) == AT_A_TIME:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def together(everything: Soak, kinds: Mapping[int, str]) -> list[Outcome]:
    """Runs at the same time; a single one in this very thread."""
    if len(kinds) == 1:
        return list(starmap(everything.endure, kinds.items()))
    with ThreadPoolExecutor(len(kinds)) as threads:
        return list(threads.map(everything.endure, kinds.keys(), kinds.values()))


def order(runs: int, faults: Sequence[str], seed: int) -> list[str]:
    """Which run meets which fault: equal parts, mixed."""
    found = [faults[index % len(faults)] for index in range(runs)]
    Random(seed).shuffle(found)
    return found


# --- command ---------------------------------------------------------------------------------------


@click.command(help=__doc__)
@click.option("--runs", default=200, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, help="Draws films, faults and moments.")
@click.option("--fault", "faults", multiple=True, type=click.Choice([*FAULTS]), help="Only these.  [default: all]")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--keep", is_flag=True, help="Keep this result for this device.")
@click.option("--kept", type=click.Path(path_type=Path), help="Where it is kept.  [default: in results/]")
def main(runs: int, seed: int, faults: tuple[str, ...], device: str, keep: bool, kept: Path | None) -> None:
    place = pick_device(device)
    with quiet_place() as work:
        found = soak(work, order(runs, faults or tuple(FAULTS), seed), seed, place)
    for line in table(found):
        print(line)
    print(json.dumps(found))
    if keep:
        write_record(kept or RESULTS / f"soak-{slug(device_name(place))}.json", found)
    raise SystemExit(bool(found["lost"] or found["leaks"] or found["left_behind"]))


def soak(work: Path, kinds: Sequence[str], seed: int, device: torch.device) -> dict[str, Any]:
    """Do all runs, of one fault each, and give what there is to report."""
    clock, films = Clock(time.perf_counter()), -(-len(kinds) // RUNS_A_FILM)
    clock.say(f"{films} films are made undisturbed")
    everything, growth = Soak.begin(work, films, seed, device), Growth(warm=len(kinds) // WARM_UP)
    outcomes: list[Outcome] = []
    for numbers in in_turn(kinds):
        for each in together(everything, {number: kinds[number - 1] for number in numbers}):
            outcomes.append(each)
            growth.note()
            clock.say(
                f"run {each.number}, {each.fault}: {each.what or '-'}{'; LOST: ' * bool(each.lost)}{each.lost}"
            )
    left = [path.name for path in (work / TEMPORARY).iterdir()]
    return {
        "benchmark": "soak",
        "device": device_name(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "seed": seed,
        "films": films,
        "seconds": time.perf_counter() - clock.start,
        "processor_seconds": sum(os.times()[:4]),
        "tolerance": TOLERANCE,
        **figures(outcomes, growth.figures(), growth.leaks(), left),
    }


@contextmanager
def quiet_place() -> Iterator[Path]:
    """A folder for everything, temporary files too; holo-lite's warnings go nowhere."""
    logging.getLogger("holo_lite").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        work = Path(folder)
        (work / TEMPORARY).mkdir()
        own = str(work / TEMPORARY)
        places = {"TMPDIR": own, "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor")}
        with mock.patch.object(tempfile, "tempdir", own), mock.patch.dict(os.environ, places):
            yield work


if __name__ == "__main__":
    main()
