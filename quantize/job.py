"""A conversion from beginning to end: convert, judge, finish."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from torch import Tensor

from holo_lite.units import bytes_text
from holo_lite.weights.safetensors_file import SafetensorsFile
from holo_lite.weights.shard import write_whole
from quantize.convert import Conversion, Converted, Event, Note, convert, finish
from quantize.plan import ComponentPlan
from quantize.quality import Quality, block_errors, refuse_bad

EXPERTS = ("high_noise", "low_noise")
REPORT = "quality.json"
NAMED = 10  # tensors above their bound that are named on the screen; the report has them all


@dataclass(frozen=True)
class Finished:
    """The folder is a model now."""

    conversion: Conversion
    quality: Quality


def run(conversion: Conversion) -> Generator[Event | Finished, None, None]:
    """Convert, compare, and finish.

    Raises as `convert` does, and `CheckpointError` for a result too coarse; its ``quality.json`` is written
    all the same, and no manifest, so that the folder is no model.
    """
    for event in convert(conversion):
        yield event
        if isinstance(event, Converted):
            quality = judge(conversion, event)
            yield from _warnings(quality)
            report = quality.to_json().encode()
            write_whole(conversion.out / REPORT, report)
            refuse_bad(quality)
            files = {**event.manifest.files, REPORT: hashlib.sha256(report).hexdigest()}
            finish(conversion, dataclasses.replace(event.manifest, files=files))
            yield Finished(conversion, quality)


def _warnings(quality: Quality) -> Iterator[Note]:
    above = quality.exceeding(1.0)
    yield from (Note(f"above its scheme's bound: {line}") for line in above[:NAMED])
    if len(above) > NAMED:
        yield Note(f"above their schemes' bounds: {len(above) - NAMED} more, named in {REPORT}")


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
    """Map stored tensors of a component whose manifest is not written yet."""
    homes = {spec.name: shard.file for shard in component.shards for spec in shard.specs}
    opened = functools.cache(lambda file: SafetensorsFile(conversion.out / file))
    return lambda name: opened(homes[name]).load(name)


def preflight(conversion: Conversion) -> Iterator[str]:
    """What will be read and written, for a person, before any work."""
    yield f"reads   {bytes_text(conversion.source_nbytes):>10} from {len(conversion.sources)} files"
    for component in conversion.components:
        schemes = sorted({t.scheme for shard in component.shards for t in shard.tensors})
        stored = ", ".join("as it is" if scheme == "plain" else scheme for scheme in schemes)
        files = "1 file" if len(component.shards) == 1 else f"{len(component.shards)} files"
        yield f"writes  {bytes_text(component.nbytes):>10} {component.role}: {files}, {stored}"
    yield f"needs   {bytes_text(conversion.nbytes):>10} of disk in {conversion.out}"
