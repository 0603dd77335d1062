"""The ways to compute a step, each as a cell: a way at a length, measured.

A cell says what it is (`kind` and how it computes), its seconds scaled to the whole model, and its peak of memory.
Where blocks are left out of a model that is resident, their weights are added to the peak. A way for which there is
no memory gives that as its result, and so does one that is refused, or whose library is not installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.fit.model import Model, write_model
from benchmarks.resumable import Say
from benchmarks.speed import reference as speed_reference
from benchmarks.speed.floor import Stopwatch, attentions, floor, gemms
from benchmarks.speed.own import Computing, Own, own_ways, use
from benchmarks.speed.scale import SHOTS, Inputs, Scale, windows_of
from benchmarks.speed.weights import fill_random
from benchmarks.timing import timed_with_peak, warm
from holo_lite.config import Attention, Expert
from holo_lite.errors import SettingsError
from holo_lite.model.compute import Attend, Compute
from holo_lite.model.dit import WanDiT
from holo_lite.model.layers import TextRows
from holo_lite.plan.ladder import shortage_of
from holo_lite.streaming.experts import ExpertSetup, StreamedExperts
from holo_lite.streaming.lane import PinError
from holo_lite.streaming.residency import Residency
from holo_lite.text.encoder_sizes import UMT5_XXL, EncoderSizes

Found = dict[str, Any]

SMALL_ENCODER = EncoderSizes(256384, 64, 96, 16, 4, 2, 32)  # the vocabulary is the tokenizer's
FOREIGN = (RuntimeError, ValueError, TypeError, AttributeError, ImportError)  # what others' refusals are
DIFFUSERS: dict[str, Found] = {  # by name, what `diffusers.Way` takes
    "diffusers resident": {"weights": "plain", "offload": False},
    "diffusers offloaded": {"weights": "plain", "offload": True},
    "diffusers nf4 resident": {"weights": "nf4", "offload": False},
    "diffusers nf4 offloaded": {"weights": "nf4", "offload": True},
}


@dataclass(frozen=True)
class Bench:
    """Where it runs and writes, and at which scale."""

    work: Path
    device: torch.device
    scale: Scale
    say: Say

    @property
    def entire(self) -> Bench:
        """The same with all blocks."""
        return replace(self, scale=self.scale.entire)


Cell = Callable[[Bench, int], Found]


def cells(bench: Bench) -> dict[str, Cell]:
    """All ways by name, in the order of the table."""
    found: dict[str, Cell] = {way.name: partial(own, way=way) for way in own_ways(bench.scale, bench.device)}
    found["reference"] = reference
    found |= {name: partial(diffusers, name=name, way=way) for name, way in DIFFUSERS.items()}
    found["floor"] = floor_cell
    return found


def expert_folder(bench: Bench, scheme: str) -> Path:
    """An expert of the blocks that are run, in a scheme: written now if it is not there."""
    config = bench.scale.config
    folder = bench.work / f"speed-{config.num_layers}-blocks-of-{config.dim}" / scheme
    write_model(folder, scheme, Model(config, _vae_width(bench)), bench.say)
    return folder


def whole_model(bench: Bench) -> Path:
    """A model with everything that a start needs, in nf4: written now if it is not there."""
    encoder = SMALL_ENCODER if bench.scale.small else UMT5_XXL
    folder = bench.work / f"speed-model-of-{bench.scale.whole.dim}"
    write_model(folder, "nf4", Model(bench.scale.whole, _vae_width(bench), encoder), bench.say)
    return folder


def _vae_width(bench: Bench) -> int:
    return 4 if bench.scale.small else 96


def attempted(run: Callable[[], Found], *, foreign: bool = False) -> Found:
    """What a way gives, or why it gives nothing: no memory, refused here, or, in foreign code, whatever it says."""
    try:
        return run()
    except SettingsError as error:
        return {"failed": str(error)}
    except ImportError as error:
        return {"failed": f"is not installed: {error}"}
    except (*FOREIGN, PinError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        if shortage_of(error) is not None:
            return {"does_not_fit": said}
        if not foreign:
            raise
        return {"failed": f"{type(error).__name__}: {said}"}


def measured(bench: Bench, frames: int, attention: Attention, run: Callable[[], Any], left_out: int = 0) -> Found:
    """Time a step, scaled to the whole model, and take its peak, with so many bytes of weights added."""
    seconds, peak = timed_with_peak(run, bench.device, bench.scale.repeats)
    factor = bench.scale.factor(frames, attention)
    found = {"seconds": [factor * each for each in seconds], "scaled_by": factor}
    fits = not left_out or peak + left_out <= torch.cuda.get_device_properties(bench.device).total_memory
    return {**found, "peak_bytes": peak + left_out, "left_out_bytes": left_out, "fits": fits}


def weight_left_out(bench: Bench, model: nn.Module) -> int:
    """Bytes on the device of the blocks that a resident model lacks, when it has just been made."""
    missing = bench.scale.whole.num_layers - bench.scale.layers
    if not missing:
        return 0
    ends = sum(each.nbytes for name, each in model.named_parameters() if not name.startswith("blocks."))
    return missing * (torch.cuda.memory_allocated(bench.device) - ends) // bench.scale.layers


# --- ours ------------------------------------------------------------------------------------------


def own(bench: Bench, frames: int, way: Own) -> Found:
    """A step of this project's, both branches in one visit of each block."""
    says = {"kind": "own", "name": way.name, "frames": frames, "dense": False, "streamed": way.scheme is not None}

    def run() -> Found:
        computing = use(way, bench.scale, bench.device)
        return computing.says | step(bench.entire if way.entire else bench, frames, way, computing)

    return says | attempted(run)


def step(bench: Bench, frames: int, way: Own, computing: Computing) -> Found:
    """Build the model, run it, and say what part of the time it waited for weights."""
    with expert(bench, way, computing.compute) as (model, waited):
        left_out = 0 if way.scheme else weight_left_out(bench, model)
        inputs = Inputs.of(bench.scale, frames, bench.device)
        with torch.inference_mode():
            texts = [TextRows(model.embed_text(prompt.rows), prompt.windows) for prompt in inputs.prompts]
        waited()
        start = time.perf_counter()
        found = measured(
            bench, frames, "sparse", lambda: model(inputs.latents, inputs.timestep, texts, inputs.clip), left_out
        )
        return found | {"waited_share": waited() / (time.perf_counter() - start)}


@contextmanager
def expert(bench: Bench, way: Own, compute: Compute) -> Iterator[tuple[WanDiT, Callable[[], float]]]:
    """A model, and a function that says how many seconds it has waited for weights: resident, or streamed."""
    if way.scheme is None:
        yield resident(bench, compute), lambda: 0.0
        return
    folder = expert_folder(bench, way.scheme)
    forwards: dict[Expert, int] = {
        "high_noise": bench.scale.repeats.most + 2
    }  # the first warms up, a CPU's last counts memory
    paths: dict[Expert, Path] = {"high_noise": folder / "high_noise"}
    held = Residency(cached=bench.scale.layers)
    streamed = StreamedExperts(ExpertSetup(paths, bench.scale.dtype, bench.device, compute=compute), forwards, held)
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
        model = resident(bench, computing.compute)
        left_out, inputs = weight_left_out(bench, model), Inputs.of(bench.scale, frames, bench.device)
        attend = computing.compute.attention
        found = measured(bench, frames, "sparse", lambda: speed_reference.step(model, inputs, attend), left_out)
        return {"kernel": computing.says["kernel"]} | found

    return says | attempted(run)


def diffusers(bench: Bench, frames: int, name: str, way: Found) -> Found:
    """A step of diffusers'."""
    says = {"kind": "diffusers", "name": name, "frames": frames, "dense": True, **way}

    def run() -> Found:
        if way["offload"] and not bench.scale.small:
            return built(bench.entire)  # what it moves besides the blocks does not grow with their number
        return built(bench)

    def built(bench: Bench) -> Found:
        from benchmarks.speed import (
            diffusers as speed_diffusers,
        )  # whose libraries nothing else needs

        model = speed_diffusers.build(
            bench.scale.config, bench.device, bench.scale.dtype, speed_diffusers.Way(**way)
        )
        left_out = 0 if way["offload"] else weight_left_out(bench, model)
        inputs = Inputs.of(bench.scale, frames, bench.device)
        return measured(bench, frames, "full", lambda: speed_diffusers.step(model, inputs), left_out)

    return says | attempted(run, foreign=True)


def floor_cell(bench: Bench, frames: int) -> Found:
    """The whole model's products and attentions alone."""
    says: Mapping[str, Any] = {"kind": "floor", "name": "floor", "frames": frames, "dense": False}
    config, clip = bench.scale.whole, Inputs.of(bench.scale, frames, torch.device("cpu")).clip
    windows = [windows_of(SHOTS), *[None] * (bench.scale.branches - 1)]

    def run() -> Found:
        kernels = dict(_exact_kernels(bench))
        warm(bench.device)
        watch = Stopwatch(bench.device, bench.scale.dtype, config.num_heads, kernels)
        return floor([*gemms(config, clip, windows), *attentions(config, clip, windows)], watch)

    return {**says, **attempted(run, foreign=True)}


def _exact_kernels(bench: Bench) -> Iterator[tuple[str, Attend]]:
    """Attention kernels that can be used here, by name."""
    for way in own_ways(bench.scale, bench.device):
        if way.plain and way.kernel != "auto":
            with suppress(SettingsError):
                yield way.kernel, use(replace(way, fuse="off"), bench.scale, bench.device).compute.attention
