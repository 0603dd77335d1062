"""A profile of chosen steps of a run: `HOLO_LITE_PROFILE=trace.json`, for chrome://tracing or ui.perfetto.dev.

The second and third step are recorded, or those that `HOLO_LITE_PROFILE_STEPS` names (`5`, `2-3`): the first also
fetches weights and lets libraries choose their kernels. A step that fails for want of memory is recorded again when
it is repeated. Recording slows a step down and takes some hundred megabytes of main memory at full size.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path

from holo_lite.errors import SettingsError
from holo_lite.sampling.sampler import Progress

PATH, STEPS = "HOLO_LITE_PROFILE", "HOLO_LITE_PROFILE_STEPS"
DEFAULT = "2-3"

logger = logging.getLogger(__name__)

Steps = Generator[Progress, None, None]


def profiled(steps: Steps, done: int) -> Steps:
    """The same steps, of which the chosen ones are recorded if the environment asks for it.

    done: how many steps came before these. Raises `SettingsError` for steps that are none.
    """
    path = os.environ.get(PATH)
    return _recorded(steps, done, Path(path), chosen(os.environ.get(STEPS, DEFAULT))) if path else steps


def chosen(text: str) -> range:
    """Numbers of steps, from 1 on: `5` or `2-3`. Raises `SettingsError` for anything else."""
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last:
        raise SettingsError(f"{STEPS} '{text}': is not a step or a range of steps; write 5 or 2-3")
    return range(first, last + 1)


def _recorded(steps: Steps, done: int, path: Path, wanted: range) -> Steps:
    from torch.profiler import record_function

    begin = max(wanted[0], done + 1)
    with closing(steps), ExitStack() as recording:
        for number in count(done + 1):
            if number == begin and number in wanted:
                recording.enter_context(_recording(path))
            with record_function(f"step {number}"):
                progress = next(steps, None)
            if progress is None:
                return
            if number == wanted[-1]:
                recording.close()
            yield progress


@contextmanager
def _recording(path: Path) -> Iterator[None]:
    """Record what is computed meanwhile, and write it unless that fails."""
    from torch import cuda
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda.is_available() else [])]
    with profile(activities=activities, record_shapes=True) as found:
        yield
    path.parent.mkdir(parents=True, exist_ok=True)
    found.export_chrome_trace(str(path))
    logger.info("the profile of the chosen steps is in %s", path)
