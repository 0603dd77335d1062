"""Carrying out a conversion, shard by shard, so that it can be interrupted anywhere and continued.

A tensor is read, checked for NaN and Inf, packed under its scheme, compared with what it was, and written. At most
one tensor is in memory, whatever the checkpoint's size. The manifest is written last: a folder without one is not
a model yet.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from holo_lite.cancel import Cancel
from holo_lite.config import Defaults
from holo_lite.errors import CheckpointError, OutputError
from holo_lite.film.colour_fit import fit_colours
from holo_lite.progress import Note, PhaseAdvanced, PhaseEvent, PhaseStarted
from holo_lite.schemes.registry import find
from holo_lite.system.outputs import partial_name, write_output
from holo_lite.system.units import bytes_text
from holo_lite.weights.manifest import (
    FILE_NAME,
    JOURNAL as JOURNAL_NAME,
    PLAIN,
    PREVIEW,
    Component,
    Manifest,
    Shard,
    SourceFile,
    StoredTensor,
    read_manifest,
)
from holo_lite.weights.shard import ShardWriter
from holo_lite.weights.stamps import WatchedFiles
from quantize.journal import Journal, hash_file
from quantize.plan import ComponentPlan, ShardPlan, TensorPlan, plan_fingerprint
from quantize.quality import Quality, relative_error
from quantize.recipe import Recipe
from quantize.source import row_slices

VAE = "vae"  # the component's name, and its folder's
LOCK = "lock"  # in the folder while a process converts into it, and after it was killed
SPARE = 64 * 2**20  # bytes of disk left free in addition to what is written


@dataclass(frozen=True, repr=False)
class Conversion:
    """A conversion that is decided: what from, where to, how."""

    out: Path
    components: tuple[ComponentPlan, ...]
    recipe: Recipe
    sources: tuple[Path, ...]
    extras: dict[str, bytes]  # small files written as they are: tokenizer, configs
    facts: dict[str, Any]  # attention, defaults, loras, licence: the manifest's other entries
    device: torch.device
    tools: dict[str, str]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.out}, {self.recipe.scheme}, {bytes_text(self.nbytes)})"

    @property
    def nbytes(self) -> int:
        """Bytes to write."""
        return sum(component.nbytes for component in self.components) + sum(map(len, self.extras.values()))

    @property
    def source_nbytes(self) -> int:
        """Bytes of all source files."""
        return sum(path.stat().st_size for path in self.sources)

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the result but the machine."""
        return plan_fingerprint(self.components, [self.recipe.as_dict(), self.facts, self.files])

    @property
    def files(self) -> dict[str, str]:
        """Hashes of the small files."""
        return {name: hashlib.sha256(content).hexdigest() for name, content in self.extras.items()}

    @property
    def shards(self) -> dict[str, ShardPlan]:
        """All files to write, by name."""
        return {shard.file: shard for component in self.components for shard in component.shards}


@dataclass(frozen=True)
class Converted:
    """The model is finished. `errors` are relative, by component and tensor."""

    manifest: Manifest
    errors: dict[str, dict[str, float]]


@dataclass(frozen=True)
class ConversionFinished:
    """The folder is a model now. seconds: how long it took since it began, or was continued."""

    conversion: Conversion
    quality: Quality = field(repr=False)
    seconds: float = 0.0


Event = PhaseEvent | Converted


def convert(conversion: Conversion, cancel: Cancel | None = None) -> Iterator[Event]:
    """Write everything except the manifest, or continue an interrupted run.

    By the token `cancel` any thread ends it before the next tensor, or piece of a file that is hashed.

    Ends with `Converted`; `finish` then makes the folder a model. Raises `CheckpointError` for NaN or Inf in a
    tensor and for a source that is written to meanwhile, `OutputError` for a folder that holds another model, and
    for a full disk.
    """
    cancel, sources = cancel or Cancel(), WatchedFiles(conversion.sources)
    journal = yield from take_up(conversion, cancel)
    total = sum(component.nbytes for component in conversion.components)
    done = sum(record["nbytes"] for record in journal.shards.values())
    yield PhaseStarted("convert", total, done)
    for component in conversion.components:
        for shard in component.shards:
            if shard.file not in journal.shards:
                record = write_shard(conversion, component, shard, cancel)
                sources.check()
                journal.finish_shard(record)
                done += shard.nbytes
                yield PhaseAdvanced(done, shard.file)
    yield from _hash_sources(conversion, journal, sources, cancel)
    yield Converted(_manifest(conversion, journal), {c.role: _errors(c, journal) for c in conversion.components})


def _hash_sources(
    conversion: Conversion, journal: Journal, sources: WatchedFiles, cancel: Cancel
) -> Iterator[PhaseEvent]:
    left = [path for path in conversion.sources if str(path) not in journal.sources]
    done = conversion.source_nbytes - sum(path.stat().st_size for path in left)
    yield PhaseStarted("hash", conversion.source_nbytes, done)
    for path in left:
        size = path.stat().st_size
        record = {"file": str(path), "nbytes": size, "sha256": hash_file(path, cancel)}
        sources.check()
        journal.finish_source(record)
        done += size
        yield PhaseAdvanced(done, path.name)


def finish(conversion: Conversion, manifest: Manifest) -> None:
    """Write the small files and, last of all, the manifest; then the journal is no longer needed.

    On the way the colours of the VAE's latents are measured, which previews are drawn with.
    """
    out = conversion.out
    for name, content in conversion.extras.items():
        write_output(out / name, content)
    if VAE in manifest.components:
        colours = fit_colours(out / VAE).as_record()
        manifest = dataclasses.replace(manifest, sections={**manifest.sections, PREVIEW: colours})
    write_output(out / FILE_NAME, manifest.to_json().encode())
    (out / JOURNAL_NAME).unlink(missing_ok=True)


def take_up(conversion: Conversion, cancel: Cancel) -> Generator[PhaseEvent, None, Journal]:
    """Continue the journal of an interrupted run of the same conversion, or begin one; finished files are checked.

    Raises `OutputError` if the folder holds anything else, or the disk is too small for the rest.
    """
    out, begun = conversion.out, {"plan": conversion.fingerprint, **_circumstances(conversion)}
    journal = Journal.read(out)
    if journal is None:
        _check_empty(out)
        _check_disk(conversion, 0)
        return Journal.start(out, begun)
    if journal.begun["plan"] != begun["plan"]:
        raise OutputError(
            f"{out}: holds an unfinished conversion of something else; remove it or name another folder"
        )
    if journal.begun == begun:
        yield from _check_finished(conversion, journal, cancel)
        _check_disk(conversion, sum(record["nbytes"] for record in journal.shards.values()))
        return journal
    changed = [key for key in begun if journal.begun.get(key) != begun[key]]
    yield Note(f"begun with different {' and '.join(changed)}, so bits may differ; starting over")
    for file in conversion.shards:
        (out / file).unlink(missing_ok=True)
    _check_disk(conversion, 0)
    return Journal.start(out, begun)


def _circumstances(conversion: Conversion) -> dict[str, Any]:
    """What may decide the last bits in addition to the plan."""
    device = conversion.device
    on_card = device.type == "cuda"
    unit = torch.cuda.get_device_name(device) if on_card else torch.backends.cpu.get_cpu_capability()
    return {"device": f"{device.type} {unit}", "threads": torch.get_num_threads(), "tools": conversion.tools}


def _check_finished(conversion: Conversion, journal: Journal, cancel: Cancel) -> Iterator[PhaseEvent]:
    """Hash the shards that were finished; those that changed since will be written again."""
    planned = conversion.shards
    total = sum(record["nbytes"] for record in journal.shards.values())
    yield PhaseStarted("check", total, subject="finished files")
    done = 0
    for file, record in list(journal.shards.items()):
        path = conversion.out / file
        done += record["nbytes"]
        if file not in planned or not path.is_file() or hash_file(path, cancel) != record["sha256"]:
            del journal.shards[file]
            yield Note(f"{file} changed since it was written; writing it again")
        yield PhaseAdvanced(done, file)
    yield Note(f"continuing: {len(journal.shards)} of {len(planned)} files are finished")


def _check_empty(out: Path) -> None:
    if out.is_file():
        raise OutputError(f"{out}: is a file; name a folder")
    if (out / FILE_NAME).is_file():
        raise OutputError(f"{out}: holds a finished model; name another folder, or --verify to check it")
    begun = {
        out / LOCK,
        partial_name(out / JOURNAL_NAME),
    }  # all there is of one killed before its first line was written
    if out.is_dir() and any(path not in begun for path in out.iterdir()):
        raise OutputError(f"{out}: is not empty and holds no unfinished conversion; name another folder")


def _check_disk(conversion: Conversion, written: int) -> None:
    needed = conversion.nbytes - written + SPARE
    place = next(path for path in (conversion.out, *conversion.out.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise OutputError(
            f"{conversion.out}: needs {bytes_text(needed)} of disk, {bytes_text(free)} are free; "
            "free some space or name a folder on another disk"
        )


def write_shard(
    conversion: Conversion, component: ComponentPlan, shard: ShardPlan, cancel: Cancel
) -> dict[str, Any]:
    """Write one shard and return its record for the journal. Cancelled between tensors, it leaves none of it."""
    errors: dict[str, float] = {}
    with ShardWriter(conversion.out / shard.file, shard.specs) as writer:
        for tensor in shard.tensors:
            cancel.check()
            error = write_tensor(writer, component, tensor, conversion.device)
            if error is not None:
                errors[tensor.name] = error
    return {"file": shard.file, "nbytes": writer.layout.nbytes, "sha256": writer.sha256, "errors": errors}


def write_tensor(
    writer: ShardWriter, component: ComponentPlan, plan: TensorPlan, device: torch.device
) -> float | None:
    """Read a tensor, pack it under its scheme and write it. Returns its relative error if it was packed."""
    if plan.scheme == PLAIN:
        for rows in _plain(component, plan):
            writer.add(rows)
        return None
    scheme, placed = find(plan.scheme), component.source.load(plan.name).to(device)
    parts = scheme.pack(placed)
    for part in parts.values():
        writer.add(part)
    return relative_error(scheme, parts, placed)


def _plain(component: ComponentPlan, plan: TensorPlan) -> Iterator[Tensor]:
    """A tensor stored as it is; a large one in slices of rows, since it may have to be computed."""
    slices = list(row_slices(plan.shape))
    if len(slices) < 2:
        yield component.source.load(plan.name)
        return
    for rows in slices:
        yield component.source.load(plan.name, rows)


def _errors(component: ComponentPlan, journal: Journal) -> dict[str, float]:
    return {name: e for shard in component.shards for name, e in journal.shards[shard.file]["errors"].items()}


def _manifest(conversion: Conversion, journal: Journal) -> Manifest:
    records = (journal.sources[str(path)] for path in conversion.sources)
    return Manifest(
        scheme=conversion.recipe.scheme,
        components={component.role: _component(component, journal) for component in conversion.components},
        sources=tuple(SourceFile(Path(r["file"]).name, r["nbytes"], r["sha256"]) for r in records),
        files=conversion.files,
        recipe={**conversion.recipe.as_dict(), "fingerprint": conversion.fingerprint},
        tools=conversion.tools,
        **{**conversion.facts, "defaults": Defaults(**conversion.facts["defaults"])},
    )


def _component(plan: ComponentPlan, journal: Journal) -> Component:
    records = [(shard, journal.shards[shard.file]) for shard in plan.shards]
    shards = tuple(Shard(s.file, r["nbytes"], r["sha256"], s.block) for s, r in records)
    tensors = {
        t.name: StoredTensor(t.scheme, t.shape, str(t.dtype).removeprefix("torch."))
        for shard in plan.shards
        for t in shard.tensors
    }
    return Component(dict(plan.config), shards, tensors)


def verify(folder: Path, cancel: Cancel | None = None) -> Generator[PhaseEvent, None, None]:
    """Hash all files of a finished model again. Raises `CheckpointError` that names the first that changed."""
    manifest, cancel = read_manifest(folder), cancel or Cancel()
    shards = [shard for component in manifest.components.values() for shard in component.shards]
    yield PhaseStarted("hash", sum(shard.nbytes for shard in shards))
    for file, sha256 in manifest.files.items():
        _check_hash(folder / file, sha256, cancel)
    done = 0
    for shard in shards:
        _check_hash(folder / shard.file, shard.sha256, cancel)
        done += shard.nbytes
        yield PhaseAdvanced(done, shard.file)
    yield Note(f"verified: all {len(shards) + len(manifest.files)} files match their checksums")


def _check_hash(path: Path, sha256: str, cancel: Cancel) -> None:
    if not path.is_file() or hash_file(path, cancel) != sha256:
        raise CheckpointError(f"{path}: is missing or changed since it was written; convert the model again")
