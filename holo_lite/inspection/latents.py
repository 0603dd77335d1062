"""Latents of any program, and encoded prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from holo_lite.errors import CheckpointError, RecordError
from holo_lite.inspection.lines import do, fact, length, some
from holo_lite.inspection.tensor_kinds import latents_among
from holo_lite.runs.folder_names import KEPT_SETTINGS, KEPT_SUFFIX
from holo_lite.runs.state_facts import LATENTS
from holo_lite.settings import SETTINGS
from holo_lite.story.shots import FRAMES_PER_LATENT, PIXELS_PER_LATENT
from holo_lite.system.units import bytes_text
from holo_lite.weights.plain_header import read_plain_header


def latents(path: Path) -> Iterator[str]:
    """A file of latents. Raises `CheckpointError`."""
    shapes, nbytes = _stored(path)
    yield f"latents, a compressed video: {bytes_text(nbytes)}"
    for name in latents_among(shapes):
        yield fact(name, latent_text(shapes[name]))
    yield "  → Pipeline.decode makes a video of latents, from Python; no command does"


def kept_latents(path: Path) -> Iterator[str]:
    """The latents kept next to a video. Raises `CheckpointError`."""
    shapes, nbytes = _stored(path)
    try:
        settings = SETTINGS.read(read_plain_header(path).metadata[KEPT_SETTINGS], to_run=False)
    except RecordError as error:
        raise CheckpointError(f"{path}: the settings in it are damaged ({error}); remove it") from error
    yield f"latents of a video: {bytes_text(nbytes)}, {latent_text(shapes.get(LATENTS, ()))}"
    yield fact("video", f"{settings.summary}; {some(len(settings.shown_captions), 'shot')}")
    if settings.frozen.memory:
        yield fact("not shown", f"{some(settings.frozen.memory, 'shot')} that it was made with")
    video = path.with_name(f"{path.name.removesuffix(KEPT_SUFFIX)}.mp4")
    yield "  Next to its video it lets shots be made again, and the story go on, without any loss:"
    yield do("make shot 1 again", "retake", video, "--shot", "1")


def encoded_prompt(path: Path) -> Iterator[str]:
    """A prompt's rows, as the cache keeps them. Raises `CheckpointError`."""
    shapes, nbytes = _stored(path)
    rows = shapes.get("rows", ())
    if len(rows) != 2:
        raise CheckpointError(f"{path}: holds no encoded prompt; remove it, and the prompt is encoded again")
    yield f"encoded prompt: {rows[0]} tokens of {rows[1]} numbers, {bytes_text(nbytes)}"
    yield "  It is kept so that the text encoder need not be read again."
    yield do("see all caches, and how large they are", "cache")


def latent_text(shape: tuple[int, ...]) -> str:
    """The shape of latents, (16, F, h, w) or more of them, and the video that they are."""
    if len(shape) < 4:
        return f"of the shape {_by(shape)}, which no video has"
    *several, _, frames, rows, columns = shape
    number = 1
    for count in several:
        number *= count
    each = "" if number == 1 else f"{number} videos of "
    pixels = f"{columns * PIXELS_PER_LATENT}×{rows * PIXELS_PER_LATENT} pixels"
    return f"{_by(shape)}: {each}{length(FRAMES_PER_LATENT * (frames - 1) + 1)}, {pixels}"


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a single number"


def _stored(path: Path) -> tuple[Mapping[str, tuple[int, ...]], int]:
    if path.suffix == ".safetensors":
        plain = read_plain_header(path).entries
        return {name: e.shape for name, e in plain.items()}, sum(e.nbytes for e in plain.values())
    from holo_lite.weights.files import open_weights

    entries = open_weights(path).entries
    return {name: e.shape for name, e in entries.items()}, sum(e.nbytes for e in entries.values())
