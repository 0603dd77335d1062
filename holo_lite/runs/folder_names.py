"""The names of the files in a run's folder."""

from __future__ import annotations

RECORD = "run.json"
LOCK = "lock"  # there while a process works on the run, and after it was killed
SEAL = "sha256"  # the last tensor of a sealed file
