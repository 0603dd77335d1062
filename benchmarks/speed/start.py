"""From command to first step: the real command, in a process of its own, watched from within.

The process is this file: it puts a witness into the console's `show`, which tells when each event came, and then is
`holo-lite generate`. The first run brings the model's pages into memory and is not counted. What counts is the time
from starting the process to the end of the first step, less the time of a later step: imports, opening, the text
encoder, the weights' way to the device.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from benchmarks import command as benchmark, environment
from holo_lite.system.cache_folder import CACHE_VARIABLE

MARK = "event:"
STEPS = 4


@dataclass(frozen=True)
class Command:
    """What is started. model: a folder, or None for the built-in one; work: where videos and caches go."""

    model: Path | None
    work: Path
    options: tuple[str, ...] = ()

    def words(self, storyboard: str) -> list[str]:
        """The command line behind `holo-lite`, with a video of a new name."""
        outs = (self.work / f"{number}.mp4" for number in count())
        out = next(path for path in outs if not any(self.work.glob(f"{path.stem}.*")))
        model = ["--model", str(self.model)] if self.model else []
        return ["generate", storyboard, *model, "--out", str(out), "--steps", str(STEPS), *self.options]


def start(command: Command, prompts: tuple[str, str]) -> dict[str, Any]:
    """Time starts: the first warms up; then one with a prompt that was never read, and two with that one again.

    `seconds` are those of the last two, to be compared with another day's.
    """
    first, second = prompts
    _run(command, first)
    new, known, again = (_run(command, second) for _ in range(3))
    return {"new": new, "known": known, "seconds": [known["until_step"], again["until_step"]]}


def begin(command: Command, storyboard: str) -> subprocess.Popen[str]:
    """Start the command; its events come through its output."""
    words = [*benchmark("speed.start"), *command.words(storyboard)]
    own = {**environment(), CACHE_VARIABLE: str(command.work / "cache")}
    return subprocess.Popen(words, stdout=subprocess.PIPE, encoding="utf-8", env=own)


def _run(command: Command, storyboard: str) -> dict[str, float]:
    begun = time.time()
    child = begin(command, storyboard)
    try:
        return figures(begun, _steps(child))
    finally:
        child.kill()
        child.wait()


def _steps(child: subprocess.Popen[str]) -> list[float]:
    """When each step was done. Raises `RuntimeError` for a run that ends before the last."""
    found: list[float] = []
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith(MARK):
            name, when, _ = json.loads(line.removeprefix(MARK))
            found += [when] if name == "StepDone" else []
        if len(found) == STEPS:
            return found
    raise RuntimeError(f"holo-lite generate ended after {len(found)} steps with code {child.wait()}")


def figures(begun: float, steps: Sequence[float]) -> dict[str, float]:
    """Seconds until the first step was done, of a later step, and of what came before the first one's own work."""
    later = sorted(after - before for before, after in pairwise(steps))
    step, first = later[len(later) // 2], steps[0] - begun
    return {"first_step": first, "step": step, "until_step": max(0.0, first - step)}


def watch() -> None:
    """Be `holo-lite`, and tell when events come."""
    import cli
    from holo_lite.views import run as console

    shown = console.show

    def show(event: Any, view: Any) -> None:
        print(MARK + json.dumps([type(event).__name__, time.time(), _particulars(event)]), flush=True)
        shown(event, view)

    console.show = show
    cli.main()


def _particulars(event: Any) -> Any:
    """What to tell of an event besides: of the plan its peaks, of a phase its name."""
    if hasattr(event, "plan"):
        return event.plan.peak
    return getattr(event, "phase", None)


if __name__ == "__main__":
    watch()
