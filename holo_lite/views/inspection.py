"""What a file is, described for a person: a checkpoint, a model folder, a storyboard, or a video.

Returns lines; printing them is the command line's business.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from holo_lite.config import Defaults
from holo_lite.errors import CheckpointError, HoloError, OutputError
from holo_lite.settings import BUILT_IN, OFF, AddedLora, RunSettings
from holo_lite.story.files import SUFFIXES as STORYBOARD_SUFFIXES, dump_toml, load_storyboard
from holo_lite.story.storyboard import Storyboard
from holo_lite.story.timeline import Timeline, resolve_timeline
from holo_lite.system.units import bytes_text, count_text

if TYPE_CHECKING:
    from holo_lite.weights.manifest import Manifest

WEIGHT_SUFFIXES = (".gguf", ".safetensors", ".index.json", ".pth", ".pt", ".bin")
Shapes = Mapping[str, tuple[int, ...]]


def inspect(path: Path) -> Iterator[str]:
    """Describe what is at `path`, a line at a time. Raises the `HoloError` of its kind."""
    if path.is_dir():
        return _folder(path)
    if path.name.endswith(WEIGHT_SUFFIXES):
        return _weights(path)
    if path.suffix.lower() in STORYBOARD_SUFFIXES:
        return _storyboard(load_storyboard(path))
    if path.suffix.lower() in {".mp4", ".mov", ".mkv"}:
        return _video(path)
    if not path.exists() and len(str(path).split()) > 1:
        return _storyboard(load_storyboard(str(path)))
    if not path.exists():
        raise OutputError(f"{path}: there is no such file; check the name")
    raise OutputError(f"{path}: is not a model, checkpoint, storyboard or video that holo-lite recognises")


def _folder(path: Path) -> Iterator[str]:
    from holo_lite.weights.folder import open_folder
    from holo_lite.weights.manifest import FILE_NAME, read_manifest

    folder = open_folder(path)
    if (path / FILE_NAME).is_file():
        yield from _converted(path, read_manifest(path))
        return
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


def _converted(path: Path, manifest: Manifest) -> Iterator[str]:
    """A manifest, described for a person."""
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
    yield storyboard.prompt


def _shots(storyboard: Storyboard, timeline: Timeline, fps: float) -> Iterator[str]:
    shots = zip(timeline.shot_frames, storyboard.shot_captions(), strict=True)
    for number, ((first, end), caption) in enumerate(shots, start=1):
        yield f"  shot {number:2}  frames {first:4}-{end - 1:4}  {(end - first) / fps:5.1f} s  {caption}"


def _length(frames: int, fps: float) -> str:
    return f"{frames} frames, {frames / fps:.1f} s at {fps:g} fps"


def _video(path: Path) -> Iterator[str]:
    from holo_lite.film.video import probe, read_metadata

    settings, info = _settings(path, read_metadata(path)), probe(path)
    yield f"# {path.name}: {info.width}×{info.height}, {_length(info.frames, float(info.fps))}"
    yield f"# made with {settings.made_with}, {settings.dtype} on {settings.device}, model {settings.model}"
    folder = "" if settings.model.startswith(BUILT_IN) else ", with this model's folder for FOLDER"
    yield f"# save the lines below as storyboard.toml, then type{folder}:"
    yield f"#   {command(settings)}"
    for lora in settings.lora:
        yield f"# {lora.file}: the LoRA with fingerprint {lora.fingerprint}; put its folder in front of its name"
    yield ""
    # The negative prompt goes into the file: not every shell can quote it.
    board = dataclasses.replace(settings.storyboard, negative=settings.negative)
    yield from dump_toml(board).splitlines()


def _settings(path: Path, metadata: str) -> RunSettings:
    try:
        return RunSettings.from_json(metadata)
    except HoloError as error:
        raise OutputError(f"{path}: {error}") from error


def command(settings: RunSettings) -> str:
    """The command that makes the same video from the storyboard that `inspect` prints.

    It leaves nothing to a default; only the model's folder must be filled in.
    """
    timed = any(shot.frames is not None or shot.seconds is not None for shot in settings.storyboard.shots)
    timing = [] if timed else [f"--frames {settings.frames}"]
    if profile := settings.plan.get("profile"):
        timing.append(f"--profile {profile}")
    if settings.cuts and not timed:
        timing.append(f"--cuts {','.join(map(str, settings.cuts))}")
    words = [
        "holo-lite generate storyboard.toml",
        *([] if settings.model.startswith(BUILT_IN) else ["--model FOLDER"]),
        *timing,
        f"--height {settings.height} --width {settings.width} --fps {_exact(settings.fps)}",
        f"--steps {settings.steps} --cfg {_exact(settings.cfg)} --seed {settings.seed}",
        f"--attention {settings.attention} --device {settings.device} --dtype {settings.dtype}",
        *(_lora(lora) for lora in settings.lora),
        *_savings(settings),
        *_computing(settings),
    ]
    return " ".join(words)


def _savings(settings: RunSettings) -> Iterator[str]:
    """The options that skipped forwards."""
    if settings.cache != OFF:
        high, low = settings.cache
        yield f"--cache high={_exact(high)},low={_exact(low)}"
    if settings.cfg_until != 1:
        yield f"--cfg-until {_exact(settings.cfg_until)}"


def _lora(lora: AddedLora) -> str:
    noise = lora.expert.removesuffix("_noise")
    return f"--lora {shlex.quote(f'{noise}={lora.file}:{_exact(lora.strength)}')}"


def _computing(settings: RunSettings) -> Iterator[str]:
    """How it computed, where `auto` might choose differently: on a CPU it is always plain."""
    record = settings.computing
    kept = {"kernel": record.get("kernel"), "compute": record.get("linear"), "fuse": record.get("fused")}
    plain = {"kernel": "sdpa", "compute": "plain", "fuse": "off"}
    for option, said in kept.items():
        if said is not None and (settings.device != "cpu" or said != plain[option]):
            yield f"--{option} {'bf16' if said == 'plain' else said}"


def _exact(number: float) -> str:
    """All digits that distinguish it from other numbers, without ``.0``."""
    return repr(number).removesuffix(".0")
