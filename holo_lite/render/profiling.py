"""A trace of chosen denoising steps, for whoever looks for lost time: `HOLO_LITE_PROFILE=trace.json`.

`HOLO_LITE_PROFILE_STEPS`, such as ``2-3``, says which, counted from 1. The file is in Chrome's format: open it in
https://ui.perfetto.dev. Without the variable nothing of the profiler is imported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import torch

from holo_lite.errors import SettingsError

PROFILE, STEPS = "HOLO_LITE_PROFILE", "HOLO_LITE_PROFILE_STEPS"
AFTER_WARMING = "2-3"  # the first step also opens the weights
T = TypeVar("T")
logger = logging.getLogger(__name__)


def profiled(steps: Iterator[T], done: int) -> Iterator[T]:
    """The steps as they are, or with those that the environment names profiled. `done` were computed before.

    Raises `SettingsError` for what names no steps.
    """
    path = os.environ.get(PROFILE)
    return _profiled(steps, done, Path(path), *_range(os.environ.get(STEPS, AFTER_WARMING))) if path else steps


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    try:
        found = int(first), int(last or first)
    except ValueError:
        found = 0, 0
    if not 1 <= found[0] <= found[1]:
        raise SettingsError(f"{STEPS} '{text}': give a step or two of them, such as 2-3")
    return found


def _profiled(steps: Iterator[T], done: int, path: Path, first: int, last: int) -> Iterator[T]:
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    watching, number = ExitStack(), done
    trace = profile(activities=kinds)
    try:
        while True:
            if number + 1 == first:
                watching.enter_context(trace)
            try:
                step = next(steps)
            except StopIteration:
                return
            number += 1
            if number == last and first > done:
                watching.close()
                trace.export_chrome_trace(str(path))
                logger.info("steps %d to %d are traced in %s", first, last, path)
            yield step
    finally:
        watching.close()
