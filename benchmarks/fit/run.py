"""Running steps and decodings of the real runtime under a cap, and what is measured on them.

A step's time, and what part of it computation waited for weights, are what the runtime says with every step. Peaks
are the allocator's; on a CPU, where the same code runs small to prove itself, tensors are counted one by one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from live_bytes import LiveBytes

from holo_lite.config import TEXT_ROWS
from holo_lite.events import StepDone, SteppedDown
from holo_lite.model.clip import Clip
from holo_lite.model.compute import PLAIN, Compute
from holo_lite.model.load import check_expert
from holo_lite.plan.plan import Plan
from holo_lite.render.denoise_phase import Denoiser
from holo_lite.render.device_memory import capped, clear
from holo_lite.sampling.sampler import Context, Guidance, initial_noise
from holo_lite.settings import RunSettings
from holo_lite.story.shots import even_cuts
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.streaming import streamer
from holo_lite.streaming.disk import DiskReader
from holo_lite.streaming.experts import ExpertSetup
from holo_lite.streaming.image import BlockImage

STEPS = 50  # of a whole run: its first ones are measured, which are all of the high-noise expert
RETRIES = "num_alloc_retries"  # how often the allocator gave all it had cached back, and waited, to go on
READ = 2**26  # bytes at a time when the disk's rate is measured

Say = Callable[[str], None]


@dataclass(frozen=True)
class Film:
    """A clip's frames, shots and pixels."""

    frames: int
    shots: int
    height: int
    width: int

    @property
    def settings(self) -> RunSettings:
        """A run of it."""
        return RunSettings(
            storyboard=Storyboard("A benchmark.", tuple(Shot("A shot.") for _ in range(self.shots))),
            frames=self.frames,
            cuts=even_cuts(self.frames, self.shots),
            height=self.height,
            width=self.width,
            fps=16.0,
            steps=STEPS,
            cfg=5.0,
            seed=1,
            negative="",
            attention="sparse",
            dtype="bf16",
            device="auto",
            model="synthetic",
        )


def denoise(
    folder: Path, film: Film, plan: Plan, device: torch.device, steps: int, say: Say, compute: Compute = PLAIN
) -> dict[str, Any]:
    """Run the first steps of a clip under a plan; all but the first are measured, unless there is one only."""
    settings = film.settings
    latents = initial_noise(Clip(settings.layout), settings.seed).to(device)
    setup = ExpertSetup(_experts(folder), torch.bfloat16, device, compute)
    run = Denoiser(setup, settings, _guidance(folder, device), latents).run(plan)
    del latents
    seconds, waited, rungs, finite = [], [], [], True
    with capped(device, plan.budget), counted(device) as peak:
        for event in run:
            if isinstance(event, SteppedDown):
                rungs.append(event.change)
                say(f"memory ran out: {event.change}")
            elif isinstance(event, StepDone):
                seconds.append(event.seconds)
                waited.append(event.waited)
                finite &= bool(torch.isfinite(event.progress.latents).all())
                say(f"step {len(seconds)} of {steps}: {seconds[-1]:.3f} s, {waited[-1]:.3f} s of it waiting")
            if len(seconds) == steps:
                break
        run.close()
        memory = peak()
    clear(device)
    measured = slice(1, None) if steps > 1 else slice(None)
    mean = sum(seconds[measured]) / len(seconds[measured])
    share = sum(waited[measured]) / sum(seconds[measured])
    times = {"seconds": seconds, "seconds_a_step": mean, "waited": waited, "waited_share": share}
    return {**times, "rungs": rungs, "finite": finite, **memory}


def decode(folder: Path, film: Film, plan: Plan, device: torch.device, say: Say) -> dict[str, Any]:
    """Decode a clip of noise as the plan says; frames are dropped, not written."""
    from holo_lite.render.decode_phase import FrameDecoder  # which needs a library that no other part does

    latents = initial_noise(Clip(film.settings.layout), 1).to(device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    decoder = FrameDecoder(folder / "vae.safetensors", dtype, device)
    with capped(device, plan.budget), counted(device) as peak, torch.inference_mode():
        start, frames = _now(device), 0
        for frame in decoder.frames(latents, plan.tile):
            frames += 1
            if frames % 60 == 1:
                say(f"frame {frames} of {film.frames}, {tuple(frame.shape)}")
        seconds, memory = _now(device) - start, peak()
    clear(device)
    return {"decode_seconds": seconds, "frames": frames, "tile": plan.tile, **memory}


def _experts(folder: Path) -> dict[Any, Path]:
    return {expert: folder / expert for expert in ("high_noise", "low_noise")}


def _guidance(folder: Path, device: torch.device) -> Guidance:
    generator = torch.Generator().manual_seed(0)
    width = check_expert(folder / "high_noise").text_dim
    rows = [torch.randn(TEXT_ROWS, width, generator=generator).to(device, torch.bfloat16) for _ in range(2)]
    return Guidance(Context(rows[0]), Context(rows[1]), 5.0)


def _now(device: torch.device) -> float:
    """The time when the card has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def counted(device: torch.device) -> Iterator[Callable[[], dict[str, int | None]]]:
    """Give a function that says the most bytes held so far."""
    if device.type == "cuda":
        clear(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_stats(device)[RETRIES]
        yield lambda: {
            "allocated": torch.cuda.max_memory_allocated(device),
            "reserved": torch.cuda.max_memory_reserved(device),
            "retries": torch.cuda.memory_stats(device)[RETRIES] - before,
        }
        return
    with LiveBytes(without_meta=True) as live:
        yield lambda: {"allocated": live.peak, "reserved": None, "retries": None}


def evict(folder: Path) -> None:
    """Ask the system to forget a model's pages. A host below a virtual disk may remember them all the same."""
    for path in folder.rglob("*.safetensors"):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        _forget(handle)
        os.close(handle)


def _forget(handle: int) -> None:
    if sys.platform != "win32" and sys.platform != "darwin":
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


class ForgetfulReader(DiskReader):
    """Reads what is on the disk, each time: what it has read is evicted at once."""

    def read(self, image: BlockImage, buffer: torch.Tensor) -> None:
        """Fill the front of a buffer with an image."""
        super().read(image, buffer)
        for piece in image.pieces:
            _forget(self.handle(piece.path))


@contextmanager
def from_the_disk(folder: Path) -> Iterator[None]:
    """Within, blocks come from the disk and not from pages that are still in memory."""
    evict(folder)
    with mock.patch.object(streamer, "DiskReader", ForgetfulReader):
        yield


def disk_rate(folder: Path) -> float:
    """Bytes a second from the disk, one file after the other as blocks are read."""
    evict(folder)
    buffer, total, start = memoryview(bytearray(READ)), 0, time.perf_counter()
    for path in sorted((folder / "high_noise").glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while got := file.readinto(buffer):
                total += got
    seconds = time.perf_counter() - start
    evict(folder)
    return total / seconds
