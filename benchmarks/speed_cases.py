"""The ways to compute a step, each as a cell: a way at a length, measured.

A cell says what it is (`kind` and how it computes), its seconds scaled to the whole model, and its peak of memory.
A way for which there is no memory gives that as its result, and so does one that is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import speed_diffusers
import speed_reference
import torch
from fit_model import Model, write_model
from resumable import Say
from speed_floor import Stopwatch, attentions, floor, gemms
from speed_own import Computing, Own, own_ways, use
from speed_scale import SHOTS, Inputs, Scale, windows_of
from speed_weights import fill_random
from timing import timed_with_peak

from holo_lite.config import Attention
from holo_lite.errors import SettingsError
from holo_lite.model.compute import Attend, Compute
from holo_lite.model.dit import WanDiT
from holo_lite.model.layers import TextRows
from holo_lite.plan.encoding import UMT5_XXL
from holo_lite.plan.ladder import shortage_of
from holo_lite.schedule import Expert
from holo_lite.streaming.experts import StreamedExperts
from holo_lite.streaming.lane import PinError
from holo_lite.streaming.places import Residency
from holo_lite.text.encoder_files import EncoderSizes

SMALL_ENCODER = EncoderSizes(256384, 64, 96, 16, 4, 2, 32)  # the vocabulary is the tokenizer's
FOREIGN = (RuntimeError, ValueError, TypeError, AttributeError, ImportError)  # what others' refusals are
DIFFUSERS = {
    "diffusers resident": speed_diffusers.Way(),
    "diffusers offloaded": speed_diffusers.Way(offload=True),
    "diffusers nf4 resident": speed_diffusers.Way("nf4"),
    "diffusers nf4 offloaded": speed_diffusers.Way("nf4", offload=True),
}

Found = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """Where it runs and writes, and at which scale."""

    work: Path
    device: torch.device
    scale: Scale
    say: Say

    def folder(self, scheme: str) -> Path:
        """Where the model in a scheme lies."""
        config = self.scale.config
        return self.work / f"speed-{config.num_layers}-blocks-of-{config.dim}" / scheme


Cell = Callable[[Bench, int], Found]


def cells(bench: Bench) -> dict[str, Cell]:
    """All ways by name, in the order of the table."""
    found: dict[str, Cell] = {way.name: partial(own, way=way) for way in own_ways(bench.scale, bench.device)}
    found["reference"] = reference
    found |= {name: partial(diffusers, name=name, way=way) for name, way in DIFFUSERS.items()}
    found["floor"] = floor_cell
    return found


def weights(bench: Bench, scheme: str) -> Found:
    """Write the model that is streamed; in nf4 it is whole, so that it can be started, too."""
    encoder = None if scheme != "nf4" else SMALL_ENCODER if bench.scale.small else UMT5_XXL
    model = Model(bench.scale.config, 4 if bench.scale.small else 96, encoder)
    write_model(bench.folder(scheme), scheme, model, bench.say)
    return {}


def attempted(run: Callable[[], Found], *, foreign: bool = False) -> Found:
    """What a way gives, or why it gives nothing: no memory, refused here, or, in foreign code, whatever it says."""
    try:
        return run()
    except SettingsError as error:
        return {"failed": str(error)}
    except (*FOREIGN, PinError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        if shortage_of(error) is not None:
            return {"does_not_fit": said}
        if not foreign:
            raise
        return {"failed": f"{type(error).__name__}: {said}"}


def measured(bench: Bench, frames: int, attention: Attention, run: Callable[[], Any]) -> Found:
    """Time a step, scaled to the whole model, and take its peak."""
    seconds, peak = timed_with_peak(run, bench.device, bench.scale.repeats)
    factor = bench.scale.factor(frames, attention)
    return {"seconds": [factor * each for each in seconds], "scaled_by": factor, "peak_bytes": peak}


# --- ours ------------------------------------------------------------------------------------------


def own(bench: Bench, frames: int, way: Own) -> Found:
    """A step of this project's, both branches in one visit of each block."""
    says = {"kind": "own", "name": way.name, "frames": frames, "dense": False, "streamed": way.scheme is not None}

    def run() -> Found:
        computing = use(way, bench.scale, bench.device)
        return computing.says | step(bench, frames, way, computing)

    return says | attempted(run)


def step(bench: Bench, frames: int, way: Own, computing: Computing) -> Found:
    """Build the model, run it, and say what part of the time it waited for weights."""
    inputs = Inputs.of(bench.scale, frames, bench.device)
    with expert(bench, way, computing.compute) as (model, waited):
        with torch.inference_mode():
            texts = [TextRows(model.embed_text(prompt.rows), prompt.windows) for prompt in inputs.prompts]
        waited()
        start = time.perf_counter()
        found = measured(
            bench, frames, "sparse", lambda: model(inputs.latents, inputs.timestep, texts, inputs.clip)
        )
        return found | {"waited_share": waited() / (time.perf_counter() - start)}


@contextmanager
def expert(bench: Bench, way: Own, compute: Compute) -> Iterator[tuple[WanDiT, Callable[[], float]]]:
    """A model, and a function that says how many seconds it has waited for weights: resident, or streamed."""
    if way.scheme is None:
        yield resident(bench, compute), lambda: 0.0
        return
    folder = bench.folder(way.scheme)
    forwards: dict[Expert, int] = {
        "high_noise": bench.scale.repeats.most + 2
    }  # the first warms up, a CPU's last counts memory
    paths: dict[Expert, Path] = {"high_noise": folder / "high_noise"}
    held = Residency(cached=bench.scale.layers)
    streamed = StreamedExperts(paths, forwards, bench.scale.dtype, bench.device, held, compute=compute)
    with streamed as experts, experts.lend("high_noise") as model:
        yield model, experts.waited


def resident(bench: Bench, compute: Compute) -> WanDiT:
    """A model of random weights, whole on the device."""
    with torch.device("meta"):
        model = WanDiT(bench.scale.config, compute)
    fill_random(model, bench.device, lambda _: bench.scale.dtype)
    return model.eval()


# --- theirs ----------------------------------------------------------------------------------------


def reference(bench: Bench, frames: int) -> Found:
    """A step as the published reference works, with the attention kernel that is ours by default."""
    says = {"kind": "reference", "name": "reference", "frames": frames, "dense": False}

    def run() -> Found:
        computing = use(Own("reference"), bench.scale, bench.device)
        model, inputs = resident(bench, computing.compute), Inputs.of(bench.scale, frames, bench.device)
        attend = computing.compute.attention
        found = measured(bench, frames, "sparse", lambda: speed_reference.step(model, inputs, attend))
        return {"kernel": computing.says["kernel"]} | found

    return says | attempted(run)


def diffusers(bench: Bench, frames: int, name: str, way: speed_diffusers.Way) -> Found:
    """A step of diffusers'."""
    says = {"kind": "diffusers", "name": name, "frames": frames, "dense": True, **asdict(way)}

    def run() -> Found:
        model = speed_diffusers.build(bench.scale.config, bench.device, bench.scale.dtype, way)
        inputs = Inputs.of(bench.scale, frames, bench.device)
        return measured(bench, frames, "full", lambda: speed_diffusers.step(model, inputs))

    return says | attempted(run, foreign=True)


def floor_cell(bench: Bench, frames: int) -> Found:
    """The whole model's products and attentions alone."""
    says: Mapping[str, Any] = {"kind": "floor", "name": "floor", "frames": frames, "dense": False}
    config, clip = bench.scale.whole, Inputs.of(bench.scale, frames, torch.device("cpu")).clip
    windows = [windows_of(SHOTS), *[None] * (bench.scale.branches - 1)]

    def run() -> Found:
        kernels = dict(_exact_kernels(bench))
        watch = Stopwatch(bench.device, bench.scale.dtype, config.num_heads, kernels)
        return floor([*gemms(config, clip, windows), *attentions(config, clip, windows)], watch)

    return {**says, **attempted(run, foreign=True)}


def _exact_kernels(bench: Bench) -> Iterator[tuple[str, Attend]]:
    """Attention kernels that can be used here, by name."""
    for way in own_ways(bench.scale, bench.device):
        if way.plain and way.kernel != "auto":
            with suppress(SettingsError):
                yield way.kernel, use(way, bench.scale, bench.device).compute.attention
