"""The names of what is kept: the files in a run's folder, and those next to its video."""

from __future__ import annotations

RECORD = "run.json"
LOCK = "lock"  # there while a process works on the run, and after it was killed
KEPT_SUFFIX = ".latents.safetensors"  # of a finished video's latents, next to it
KEPT_SETTINGS = "settings"  # in their metadata
SEAL = "sha256"  # the last tensor of a sealed file
