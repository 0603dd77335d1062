"""What a file is, described for a person: a checkpoint, a model folder, a storyboard, or a video.

Returns lines; printing them is the command line's business.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from holo_lite.config import Attention, Defaults
from holo_lite.errors import CheckpointError, HoloError, LaterRecordError, OutputError, RecordError
from holo_lite.reading.files import read_bytes
from holo_lite.settings import BUILT_IN, SETTINGS, RunSettings
from holo_lite.story.files import SUFFIXES as STORYBOARD_SUFFIXES, dump_toml, is_prompt, load_storyboard
from holo_lite.story.storyboard import Storyboard
from holo_lite.story.timeline import Timeline, resolve_timeline
from holo_lite.system.units import bytes_text, count_text
from holo_lite.tiny.model import is_name, tiny_model
from holo_lite.views.records import as_written, not_known_here
from holo_lite.views.remaking import check_words, command, to_fill_in

WEIGHT_SUFFIXES = (".gguf", ".safetensors", ".index.json", ".pth", ".pt", ".bin")
RUN_RECORD = "run.json"
Shapes = Mapping[str, tuple[int, ...]]


def inspect(path: Path, attention: Attention | None = None) -> Iterator[str]:
    """Describe what is at `path`, a line at a time. Raises the `HoloError` of its kind.

    `attention` says whether a folder's experts are sparse or dense, where their names do not.
    """
    if is_name(path):
        path = tiny_model()
    if (path / RUN_RECORD).is_file():
        return _run(path)
    if path.is_dir():
        return _folder(path, attention)
    if path.name.endswith(WEIGHT_SUFFIXES):
        return _weights(path)
    if path.suffix.lower() in STORYBOARD_SUFFIXES:
        return _storyboard(load_storyboard(path))
    if path.suffix.lower() in {".mp4", ".mov", ".mkv"}:
        return _video(path)
    if is_prompt(text := str(path)) and (len(text.split()) > 1 or not text.isascii()):
        return _storyboard(load_storyboard(str(path)))
    if not path.exists():
        raise OutputError(f"{path}: there is no such file; check the name")
    raise OutputError(f"{path}: is not a model, checkpoint, storyboard or video that holo-lite recognises")


def _folder(path: Path, attention: Attention | None) -> Iterator[str]:
    from holo_lite.opening.checks import find_model
    from holo_lite.weights.manifest import FILE_NAME

    if (path / FILE_NAME).is_file():
        yield from _converted(path)
        return
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
        for line in _weights(_main_file(part)):
            yield f"  {'':18} {line}"
    yield f"  {'tokenizer':18} {folder.tokenizer.relative_to(path)}"


def _converted(path: Path) -> Iterator[str]:
    """A converted model's manifest, described for a person."""
    from holo_lite.opening.checks import find_model
    from holo_lite.weights.manifest import FILE_NAME, MANIFEST, read_manifest

    try:
        manifest = read_manifest(path, to_run=False)
    except CheckpointError as error:
        if not isinstance(error.__cause__, LaterRecordError):
            raise
        yield from as_written(read_bytes(path / FILE_NAME))
        return
    if manifest.origin.runs_from <= MANIFEST.current.version:
        find_model(path)  # which says what the model lacks
    total = sum(component.nbytes for component in manifest.components.values())
    yield f"converted model {path}: {manifest.scheme}, {manifest.attention} attention, {bytes_text(total)}"
    for role, component in manifest.components.items():
        counts = Counter(tensor.scheme for tensor in component.tensors.values())
        stored = ", ".join(f"{count} tensors {scheme}" for scheme, count in sorted(counts.items()))
        shards = "1 file" if len(component.shards) == 1 else f"{len(component.shards)} files"
        yield f"  {role:13} {bytes_text(component.nbytes):>10} in {shards}: {stored}"
    for role, adapters in manifest.loras.items():
        yield f"  merged into {role}: {', '.join(adapters)}"
    for source in manifest.sources:
        yield f"  made from {source.file}, {bytes_text(source.nbytes)}, sha256 {source.sha256[:16]}…"
    yield f"  made with {', '.join(f'{name} {version}' for name, version in manifest.tools.items())}"
    yield f"  licence: {manifest.licence}"
    yield from (f"  {line}" for line in not_known_here(manifest.origin, MANIFEST.current))


def _main_file(part: Path) -> Path:
    """The weights of a diffusers folder, or the file itself."""
    if part.is_file():
        return part
    found = [*sorted(part.glob("*.safetensors.index.json")), *sorted(part.glob("*.safetensors"))]
    if not found:
        raise CheckpointError(f"{part}: holds no safetensors; download the folder again")
    return found[0]


def _weights(path: Path) -> Iterator[str]:
    from holo_lite.weights.files import open_weights

    file = open_weights(path)
    entries = file.entries.values()
    yield _kind({name: entry.shape for name, entry in file.entries.items()}, path)
    size = bytes_text(sum(entry.nbytes for entry in entries))
    numbers = count_text(sum(math.prod(entry.shape) for entry in entries))
    dtypes = sorted({str(entry.dtype).removeprefix("torch.") for entry in entries})
    yield f"{len(entries)} tensors, {numbers} numbers, {size}, {', '.join(dtypes)}"


def _kind(shapes: Shapes, path: Path) -> str:
    """Say which network has tensors of these names."""
    from holo_lite.config import dit_config
    from holo_lite.weights.names import own_names

    own = own_names(shapes)
    shapes = {own[name]: shape for name, shape in shapes.items()}
    if "patch_embedding.weight" in shapes:
        c = dit_config(shapes, path)
        return f"expert: width {c.dim}, {c.num_heads} heads, {c.num_layers} blocks, feed-forward {c.ffn_dim}"
    if "token_embedding.weight" in shapes or "shared.weight" in shapes:
        return "umt5 text encoder"
    if "conv2.weight" in shapes or "post_quant_conv.weight" in shapes:
        return "Wan 2.1 VAE"
    return "weights of an unknown network"


def _storyboard(storyboard: Storyboard) -> Iterator[str]:
    fps = storyboard.fps or Defaults().fps
    timeline = resolve_timeline(storyboard, default_frames=Defaults().frames, fps=fps)
    yield f"storyboard {storyboard.title or ''}".rstrip() + f": {_length(timeline.num_frames, fps)}"
    yield from (f"note: {note}" for note in timeline.notes)
    yield from _shots(storyboard, timeline, fps)
    yield ""
    yield from storyboard.prompt.split("\n")


def _shots(storyboard: Storyboard, timeline: Timeline, fps: float) -> Iterator[str]:
    shots = zip(timeline.shot_frames, storyboard.shot_captions(), strict=True)
    for number, ((first, end), caption) in enumerate(shots, start=1):
        yield f"  shot {number:2}  frames {first:4}-{end - 1:4}  {(end - first) / fps:5.1f} s  {caption}"


def _length(frames: int, fps: float) -> str:
    return f"{frames} frames, {frames / fps:.1f} s at {fps:g} fps"


def _video(path: Path) -> Iterator[str]:
    from holo_lite.film.video import probe, read_metadata

    text, info = read_metadata(path), probe(path)
    measures = f"# {path.name}: {info.width}×{info.height}, {_length(info.frames, float(info.fps))}"
    try:
        settings = SETTINGS.read(text, to_run=False)
        check_words(settings)
    except LaterRecordError:
        yield measures
        yield from as_written(text)
        return
    except RecordError as error:
        raise OutputError(f"{path}: carries no settings of a holo-lite run ({error})") from error
    except HoloError as error:
        raise OutputError(f"{path}: {error}") from error
    yield measures
    yield from _made(settings)
    yield ""
    # The negative prompt goes into the file: not every shell can quote it.
    board = dataclasses.replace(settings.storyboard, negative=settings.negative)
    yield from dump_toml(board).splitlines()


def _made(settings: RunSettings) -> Iterator[str]:
    yield f"# made with {settings.made_with}, {settings.dtype} on {settings.device}, model {settings.model}"
    folder = "" if settings.model.startswith(BUILT_IN) else ", with this model's folder for FOLDER"
    yield f"# save the lines below as storyboard.toml, then type{folder}:"
    yield f"#   {command(settings)}"
    yield from (f"# {note}" for note in to_fill_in(settings))
    yield from (f"# {line}" for line in not_known_here(settings.origin, SETTINGS.current))


def _run(path: Path) -> Iterator[str]:
    """An unfinished run's folder."""
    from holo_lite.runs.record import RECORD
    from holo_lite.runs.sealed import damaged
    from holo_lite.runs.state import steps_done

    text = read_bytes(path / RUN_RECORD)
    try:
        record = RECORD.read(text, to_run=False)
    except LaterRecordError:
        yield from as_written(text)
        return
    except RecordError as error:
        raise damaged(path / RUN_RECORD, error) from error
    settings, done = record.settings, steps_done(path)
    yield f"run folder {path}, which makes {record.out!r}: {_length(settings.frames, settings.fps)}"
    after = "a number of steps this version cannot read" if done is None else f"step {done} of {settings.steps}"
    yield f"  interrupted after {after}; continue it with holo-lite resume"
    yield f"  {settings.width}×{settings.height}, {settings.dtype} on {settings.device}, model {settings.model}"
    yield f"  begun with {settings.made_with}, profile {record.plan.profile}"
    for origin, codec in ((record.origin, RECORD), (settings.origin, SETTINGS)):
        yield from (f"  {line}" for line in not_known_here(origin, codec.current))
