"""Models: folders of released files, converted models, their parts, and folders above several."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from holo_lite.config import Attention
from holo_lite.errors import CheckpointError, HoloError, LaterRecordError, OutputError
from holo_lite.inspection.checkpoints import main_file, weight_lines
from holo_lite.inspection.lines import do, fact, some
from holo_lite.inspection.tensor_kinds import is_part
from holo_lite.reading.files import read_bytes
from holo_lite.system.units import bytes_text
from holo_lite.views.records import as_written, not_known_here
from holo_lite.weights.folder import models_below, open_folder
from holo_lite.weights.manifest import (
    FILE_NAME,
    JOURNAL,
    MANIFEST,
    Manifest,
    SourceFile,
    check_shards,
    read_manifest,
)

OF_A_MODEL = re.compile(r"block-\d+\.safetensors|rest\.safetensors")  # a source that was converted itself


def model_folder(path: Path, attention: Attention | None = None) -> Iterator[str]:
    """A folder of released files, each proven. Raises `CheckpointError`."""
    from holo_lite.opening.checks import find_model

    folder = find_model(path, attention)
    yield f"model folder {path}, {folder.attention} attention"
    parts = {
        "high-noise expert": folder.high_noise,
        "low-noise expert": folder.low_noise,
        "text encoder": folder.text_encoder,
        "VAE": folder.vae,
    }
    for role, part in parts.items():
        yield f"  {role:18} {part.relative_to(path)}"
        for line in weight_lines(main_file(part)):
            yield f"  {'':18} {line}"
    yield f"  {'tokenizer':18} {folder.tokenizer.relative_to(path)}"
    for model in models_below(path, attention):
        if not any(model in part.parents for part in folder.weight_paths):
            yield f"  {'also in it':18} {model.relative_to(path)}: {_in_short(model)}"
    yield do("convert it, so that it fits a card", "quantize", path, "OUT", "--scheme", "nf4")


def several_models(path: Path, attention: Attention | None = None) -> Iterator[str]:
    """A folder above models: each by its path, and what it is."""
    models = models_below(path, attention)
    yield f"folder {path}, which holds {some(len(models), 'model')}"
    for model in models:
        yield f"  {model}: {_in_short(model)}"
    yield do("look at one of them", "inspect", models[0] if models else "FOLDER")


def converted_model(path: Path) -> Iterator[str]:
    """A converted model's folder, or its manifest. Raises `CheckpointError`."""
    from holo_lite.opening.checks import find_model

    folder = path if path.is_dir() else path.parent
    if path.name != FILE_NAME and not path.is_dir():
        raise OutputError(
            f"{path}: is the manifest of a converted model under another name; it is read as {FILE_NAME}"
        )
    try:
        manifest = read_manifest(folder, to_run=False)
    except CheckpointError as error:
        if not isinstance(error.__cause__, LaterRecordError):
            raise
        yield from as_written(read_bytes(folder / FILE_NAME))
        return
    if manifest.origin.runs_from <= MANIFEST.current.version:
        for component in manifest.components.values():
            check_shards(folder, component)
        find_model(folder)  # as every command does: what one takes, no other refuses
    yield f"converted model {folder}: {_facts(manifest)}"
    yield from _components(manifest)
    for role, adapters in manifest.loras.items():
        yield f"  merged into {role}: {', '.join(adapters)}"
    yield from (f"  made from {line}" for line in _sources(manifest.sources))
    yield f"  made with {', '.join(f'{name} {version}' for name, version in manifest.tools.items())}"
    yield f"  licence: {manifest.licence}"
    yield do("make a video with it", "generate", "STORYBOARD", "--model", folder)
    yield from (f"  {line}" for line in not_known_here(manifest.origin, MANIFEST.current))


def model_part(path: Path) -> Iterator[str]:
    """One network's folder, of a converted model or of diffusers. Raises `CheckpointError`."""
    if is_part(path):
        folder = path.absolute().parent
        if not (folder / FILE_NAME).is_file():
            yield "part of a model whose conversion was interrupted"
            yield do("see how far it is", "inspect", path.parent)
            return
        manifest = read_manifest(folder, to_run=False)
        yield f"part of a converted model, {_facts(manifest)}"
        role = path.absolute().name
        yield from (line for line in _components(manifest) if line.split()[0] == role)
        yield do("see the whole model", "inspect", folder if path.name in {"", ".."} else path.parent)
        return
    file = main_file(path)
    first, measures = weight_lines(file)
    yield f"part of a model, in diffusers' layout: {first}"
    yield fact("weights", f"{file.name}: {measures}")
    yield "  It is one part of a model, whose folder holds two experts, text encoder, VAE and tokenizer."
    yield do("see what its folder holds", "inspect", path.parent)


def _in_short(model: Path) -> str:
    """What a model is, on a line, whatever is wrong with it."""
    try:
        if (model / FILE_NAME).is_file():
            return f"converted model, {_facts(read_manifest(model, to_run=False))}"
        if (model / JOURNAL).is_file():
            return "interrupted conversion"
        return f"model of released files, {open_folder(model).attention} attention"
    except HoloError as error:
        return f"damaged: {str(error).removeprefix(str(model / FILE_NAME)).lstrip(': ')}"


def _facts(manifest: Manifest) -> str:
    total = sum(component.nbytes for component in manifest.components.values())
    return f"{manifest.scheme}, {manifest.attention} attention, {bytes_text(total)}"


def _components(manifest: Manifest) -> Iterator[str]:
    for role, component in manifest.components.items():
        counts = Counter(tensor.scheme for tensor in component.tensors.values())
        stored = ", ".join(f"{count} tensors {scheme}" for scheme, count in sorted(counts.items()))
        shards = some(len(component.shards), "file")
        yield f"  {role:13} {bytes_text(component.nbytes):>10} in {shards}: {stored}"


def _sources(sources: Sequence[SourceFile]) -> Iterator[str]:
    """The files it was made from; those of a model that was converted before are one line."""
    before = [source for source in sources if OF_A_MODEL.fullmatch(source.file)]
    for source in sources:
        if source not in before:
            yield f"{source.file}, {bytes_text(source.nbytes)}, sha256 {source.sha256[:16]}…"
    if before:
        size = bytes_text(sum(source.nbytes for source in before))
        yield f"a converted model: {some(len(before), 'file')} such as {before[0].file}, {size}"
