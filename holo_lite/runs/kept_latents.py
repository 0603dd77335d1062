"""The latents of a finished video, in a file next to it: what a shot made again, or a continuation, begins from.

    lighthouse.mp4    lighthouse.png    lighthouse.latents.safetensors

They are fp32 and whole, memory included, and sealed as the states of runs are; the settings in their metadata say
which clip they are of.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from holo_lite.config import LATENT_CHANNELS, PATCH
from holo_lite.errors import CheckpointError, OutputError, RunError
from holo_lite.runs.folder_names import KEPT_SETTINGS, KEPT_SUFFIX
from holo_lite.runs.record import difference
from holo_lite.runs.sealed import read_sealed, write_sealed
from holo_lite.runs.state_facts import LATENTS
from holo_lite.settings import RunSettings
from holo_lite.weights.safetensors_file import SafetensorsFile


def latents_path(video: Path) -> Path:
    """Where the latents of a video are kept."""
    return video.with_name(f"{video.stem}{KEPT_SUFFIX}")


def write_latents(path: Path, latents: Tensor, settings: RunSettings) -> None:
    """Write latents (16, F, h, w), on any device, whole or not at all. Raises `OutputError`."""
    write_sealed(path, {LATENTS: latents.float()}, {KEPT_SETTINGS: settings.to_json()})


def settings_of(path: Path) -> str:
    """The settings of the clip that latents are of, as JSON. Raises `OutputError` for a file that names none."""
    try:
        file = SafetensorsFile(path)
    except (CheckpointError, OSError) as error:
        raise OutputError(f"{path}: is not a file of kept latents, or is damaged") from error
    if LATENTS not in file.entries or KEPT_SETTINGS not in file.metadata:
        raise OutputError(f"{path}: is not a file of kept latents")
    return file.metadata[KEPT_SETTINGS]


def check_latents(path: Path, settings: RunSettings) -> None:
    """Raise `OutputError` for a file that is not the latents of a clip, by its header alone."""
    apart = difference(RunSettings.from_json(settings_of(path)), settings)
    layout, entry = settings.layout, SafetensorsFile(path).entries[LATENTS]
    shape = (LATENT_CHANNELS, layout.latent_frames, PATCH * layout.rows, PATCH * layout.columns)
    if apart or (entry.shape, entry.dtype) != (shape, torch.float32):
        why = "; ".join(apart) or "of another size"
        raise OutputError(f"{path}: holds the latents of another clip ({why}); remove it or name its video")


def read_latents(path: Path, settings: RunSettings) -> Tensor:
    """The latents (16, F, h, w) of a clip, fp32 on the CPU.

    Raises `OutputError` for a file that is torn, was changed, or is of another clip.
    """
    check_latents(path, settings)
    try:
        return read_sealed(path)[0][LATENTS]
    except RunError as error:
        raise OutputError(
            f"{path}: is damaged, or was changed since it was written; remove it, and the video itself is used"
        ) from error
