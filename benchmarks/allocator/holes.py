"""The released model as a folder of files with true headers and no content, which opens and takes no disk."""

from __future__ import annotations

from pathlib import Path

from benchmarks.fit.model import EXPERTS, Model, component_of, conversion_of
from holo_lite.system.outputs import write_output
from holo_lite.text.encoder_sizes import UMT5_XXL
from holo_lite.weights.manifest import FILE_NAME, Component, Manifest, Shard
from holo_lite.weights.shard import lay_out
from quantize.plan import ComponentPlan, ShardPlan

NO_HASH = "0" * 64  # nothing here compares it
RELEASED = Model(encoder=UMT5_XXL)


def write_hollow(folder: Path, scheme: str, model: Model = RELEASED) -> Path:
    """Write a converted model under a scheme, where it does not stand already. → the folder."""
    if (folder / FILE_NAME).is_file():
        return folder
    conversion = conversion_of(folder, scheme, model)
    parts = {part.role: _hollow(folder, part) for part in conversion.components}
    for expert in EXPERTS:
        (folder / expert).mkdir(exist_ok=True)
        parts[expert] = parts["high_noise"]
    for name, content in conversion.extras.items():
        write_output(folder / name, content)
    write_output(folder / FILE_NAME, Manifest(scheme, "sparse", parts).to_json().encode())
    return folder


def _hollow(folder: Path, part: ComponentPlan) -> Component:
    return component_of(part, [_write(folder, shard) for shard in part.shards])


def _write(folder: Path, shard: ShardPlan) -> Shard:
    layout, path = lay_out(shard.specs), folder / shard.file
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(layout.header)
        file.truncate(layout.nbytes)
    return Shard(shard.file, layout.nbytes, NO_HASH, shard.block)
