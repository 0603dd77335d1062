"""What fewer evaluations save: a whole denoising with and without each lever, beside each other.

On a CPU of the built-in model, whose numbers mean something, so that the step cache skips what it would skip; on a
card of one with random weights in nf4, where only the levers that skip by rule say something. They take turns, so
that a machine that slows down slows all of them. What they cost the picture is `holo-lite evaluate`'s to say.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from holo_lite.events import Events, PhaseStarted, StepDone
from holo_lite.render.pipeline import Pipeline
from holo_lite.settings import Options
from holo_lite.tiny.demo import storyboard

PLAIN = "none"
LEVERS: dict[str, dict[str, Any]] = {  # options by what a person types
    PLAIN: {},
    "--cache 0.1": {"cache": (0.1, 0.1)},
    "--cache 0.2": {"cache": (0.2, 0.2)},
    "--cfg-until 0.5": {"cfg_until": 0.5},
    "--steps 4 --cfg 1": {"steps": 4, "cfg": 1.0},
}
ROUNDS = 3
Found = dict[str, Any]


def levers(pipeline: Pipeline, *, rounds: int = ROUNDS, **common: Any) -> Found:
    """Seconds of a denoising by each lever, several times over, and how many steps each skipped.

    `common` are fields of `Options` for all. `seconds` are the plain way's, to be compared with another day's.
    """
    ways: dict[str, Found] = {name: {"seconds": [], "skipped": 0} for name in LEVERS}
    for _ in range(rounds):
        for name, said in LEVERS.items():
            steps = _denoised(pipeline, Options(**{**common, **said}))
            ways[name]["seconds"].append(sum(step.seconds for step in steps))
            ways[name]["skipped"] = sum(step.skipped for step in steps)
    return {"kind": "levers", "ways": ways, "seconds": ways[PLAIN]["seconds"]}


def lines(part: Mapping[str, Any]) -> Iterator[str]:
    """What was found, for a person."""
    if "ways" not in part:
        yield f"levers: failed: {part.get('failed')}"
        return
    plain = statistics.median(part["ways"][PLAIN]["seconds"])
    for name, way in part["ways"].items():
        seconds = statistics.median(way["seconds"])
        spread = f"({min(way['seconds']):.3f} to {max(way['seconds']):.3f})"
        skipped = f", {way['skipped']} steps skipped" if way["skipped"] else ""
        yield f"{name:20} {seconds:10.3f} s {spread:20} {seconds / plain:.2f} of the first{skipped}"


def _denoised(pipeline: Pipeline, options: Options) -> list[StepDone]:
    with tempfile.TemporaryDirectory() as folder:
        return _steps(pipeline.generate(storyboard(), Path(folder) / "x.mp4", options))


def _steps(run: Events) -> list[StepDone]:
    """The steps of a run, which is ended where it would decode."""
    found: list[StepDone] = []
    with closing(run) as events:
        for event in events:
            if isinstance(event, StepDone):
                found.append(event)
            if isinstance(event, PhaseStarted) and event.phase == "load":
                break
    return found
