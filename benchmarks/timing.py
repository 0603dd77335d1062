"""How long something takes on a device, and how much memory.

On a card time is taken between two events in the stream, so that what Python does meanwhile is not counted; a
CPU's time is the clock's. The first run warms up (memory is allocated, libraries choose kernels, compilers compile)
and is not counted.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from live_bytes import LiveBytes

Run = Callable[[], Any]
AHEAD = 4_000_000  # cycles of a card, some two milliseconds


def timed(run: Run, device: torch.device) -> float:
    """Seconds of one run."""
    with torch.inference_mode():
        if device.type == "cuda":
            return _by_events(run, device)
        start = time.perf_counter()
        run()
        return time.perf_counter() - start


def _by_events(run: Run, device: torch.device) -> float:
    torch.cuda.synchronize(device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(AHEAD)  # the card is busy until Python has queued what is timed
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def warm(device: torch.device, seconds: float = 10.0) -> None:
    """Bring a card to the temperature, and so to the clock, that it has in a long run."""
    if device.type != "cuda":
        return
    side = torch.randn(8192, 8192, dtype=torch.bfloat16, device=device)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(50):
            torch.mm(side, side)
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Repeats:
    """How often something is timed: `least` times, then more until it is `most` or the seconds are over."""

    least: int = 3
    most: int = 7
    seconds: float = 20.0


A_FEW = Repeats()


def repeated(run: Run, device: torch.device, often: Repeats) -> list[float]:
    """Seconds of each of several runs after one that is not counted."""
    timed(run, device)
    found: list[float] = []
    start = time.perf_counter()
    while len(found) < often.least or (len(found) < often.most and time.perf_counter() - start < often.seconds):
        found.append(timed(run, device))
    return found


def peak_bytes(run: Run, device: torch.device) -> int:
    """Most bytes alive at once in one run: on a card with what stood before, on a CPU above it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        timed(run, device)
        return torch.cuda.max_memory_allocated(device)
    with torch.inference_mode(), LiveBytes() as live:
        run()
    return int(live.peak)


def timed_with_peak(run: Run, device: torch.device, often: Repeats) -> tuple[list[float], int]:
    """Seconds as of `repeated`, and the peak as of `peak_bytes`: on a card of the same runs, else of one more."""
    if device.type != "cuda":
        return repeated(run, device, often), peak_bytes(run, device)
    torch.cuda.reset_peak_memory_stats(device)
    seconds = repeated(run, device, often)
    return seconds, torch.cuda.max_memory_allocated(device)


def device_name(device: torch.device) -> str:
    """The card's name, or the processor's with its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {psutil.cpu_count(logical=False) or psutil.cpu_count()} cores"


def slug(name: str) -> str:
    """A device's name as a part of a file's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _processor() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] else f"CPU {platform.machine()}"
