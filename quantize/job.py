"""A conversion from beginning to end: convert, judge, finish."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.cancel import Cancel
from holo_lite.config import Attention, Expert
from holo_lite.errors import OutputError
from holo_lite.lora.notes import name_notes
from holo_lite.opening.checks import find_model
from holo_lite.opening.given import GivenLoras, adapters_by_expert, device_text
from holo_lite.progress import Note, PhaseEvent, PhaseStarted
from holo_lite.reading import values
from holo_lite.system.device import pick_device
from holo_lite.system.folder_lock import holding
from holo_lite.system.outputs import write_output
from holo_lite.system.units import bytes_text
from holo_lite.weights.safetensors_file import SafetensorsFile
from quantize.convert import LOCK, Conversion, ConversionFinished, Converted, convert, finish
from quantize.inputs import plan_conversion
from quantize.plan import ComponentPlan
from quantize.quality import Quality, block_errors, refuse_bad
from quantize.recipe import Recipe, load_recipe

EXPERTS: tuple[Expert, ...] = ("high_noise", "low_noise")
REPORT = "quality.json"
NAMED = 10  # tensors above their bound that are named on the screen; the report has them all


def prepare_conversion(
    source: str | Path,
    out: str | Path,
    scheme: str | None = None,
    *,
    recipe: str | Path | None = None,
    lora: GivenLoras | None = None,
    attention: Attention | None = None,
    device: str | torch.device = "auto",
) -> Conversion:
    """Decide a conversion of the released files in `source` to a model in the folder `out`; reads no weight.

    `scheme` is a name of `holo_lite.schemes.registry`; it is nf4 if neither it nor a `recipe`, a TOML file, is
    given. `lora` are adapters to merge, as `ModelOptions` takes them; `attention` picks sparse or full experts
    where both are there; `device`, which packs, is auto, cpu, cuda, cuda:N or a ``torch.device``.
    Raises `CheckpointError` for a source that is not what it should be, `OutputError` for an `out` inside the
    source, and `SettingsError`.
    """
    loras, place = adapters_by_expert(lora), pick_device(device_text(device))
    named = None if scheme is None else values.text("scheme", scheme)
    target = values.path("out", out)
    folder = find_model(values.path("source", source), attention)
    chosen = load_recipe(values.path("recipe", recipe), named) if recipe is not None else Recipe(named or "nf4")
    return plan_conversion(folder, target, chosen, device=place, loras=loras)


ConversionEvent = PhaseEvent | ConversionFinished


def run_conversion(conversion: Conversion, cancel: Cancel | None = None) -> Generator[ConversionEvent, None, None]:
    """Convert, compare, and finish.

    By the token `cancel` any thread ends it before the next tensor; the shards that stand are not made again.
    Raises as `convert` does, and `CheckpointError` for a result too coarse; its ``quality.json`` is written
    in spite of that, and no manifest, so that the folder is not a model. Raises `OutputError` while another process
    converts into the folder.
    """
    refusal = OutputError(f"{conversion.out}: another process is converting into it; wait for it, or stop it")
    with holding(conversion.out, LOCK, refusal):
        yield from _finished(conversion, cancel or Cancel())


def _finished(conversion: Conversion, cancel: Cancel) -> Generator[ConversionEvent, None, None]:
    start = time.monotonic()
    for event in convert(conversion, cancel):
        if isinstance(event, Converted):
            yield PhaseStarted("compare", 0)
            cancel.check()
            quality = yield from _judged(conversion, event)
            yield ConversionFinished(conversion, quality, time.monotonic() - start)
        else:
            yield event


def _judged(conversion: Conversion, converted: Converted) -> Generator[ConversionEvent, None, Quality]:
    """Compare what was written with its source; only what is good enough becomes a model. Returns how good."""
    quality = judge(conversion, converted)
    yield from _warnings(quality)
    report = quality.to_json().encode()
    write_output(conversion.out / REPORT, report)
    refuse_bad(quality)
    files = {**converted.manifest.files, REPORT: hashlib.sha256(report).hexdigest()}
    finish(conversion, dataclasses.replace(converted.manifest, files=files))
    return quality


def _warnings(quality: Quality) -> Iterator[Note]:
    above = quality.exceeding(1.0)
    yield from (Note(f"slightly less accurate than usual: {line}") for line in above[:NAMED])
    if len(above) > NAMED:
        yield Note(f"slightly less accurate than usual: {len(above) - NAMED} more, listed in {REPORT}")


def judge(conversion: Conversion, converted: Converted) -> Quality:
    """Gather the errors of all tensors, and run some blocks of each expert with both sets of weights."""
    return Quality(
        schemes={c.role: {t.name: t.scheme for s in c.shards for t in s.tensors} for c in conversion.components},
        tensors=converted.errors,
        blocks={
            c.role: block_errors(c, _reader(conversion, c), conversion.device)
            for c in conversion.components
            if c.role in EXPERTS and converted.errors[c.role]
        },
    )


def _reader(conversion: Conversion, component: ComponentPlan) -> Callable[[str], Tensor]:
    """Read stored tensors of a component whose manifest is not written yet."""
    homes = {spec.name: shard.file for shard in component.shards for spec in shard.specs}
    opened = functools.cache(lambda file: SafetensorsFile(conversion.out / file))
    return lambda name: opened(homes[name]).load(name)


def _name_notes(path: Path, role: str) -> Iterator[str]:
    expert = next((expert for expert in EXPERTS if expert == role), None)
    return name_notes(path, expert) if expert is not None else iter(())


def preflight(conversion: Conversion) -> Iterator[str]:
    """What will be read and written, for a person, before any work."""
    yield f"reads   {bytes_text(conversion.source_nbytes):>10} from {len(conversion.sources)} files"
    for component in conversion.components:
        schemes = sorted({t.scheme for shard in component.shards for t in shard.tensors})
        stored = ", ".join("as it is" if scheme == "plain" else scheme for scheme in schemes)
        files = "1 file" if len(component.shards) == 1 else f"{len(component.shards)} files"
        yield f"writes  {bytes_text(component.nbytes):>10} {component.role}: {files}, {stored}"
    for component in conversion.components:
        for lora in component.source.loras:
            yield from (f"note    {note}" for note in _name_notes(lora.path, component.role))
    yield f"needs   {bytes_text(conversion.nbytes):>10} of disk in {conversion.out}"
