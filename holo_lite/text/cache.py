"""Encoded prompts on disk, so that a second run with the same prompt never opens the text encoder.

An encoded prompt is at most 512 × 4096 values, 4 MB in bf16; making one means reading 11 GB of weights. It
depends on the token ids, the encoder's weights and the dtype, and its file is named by a hash of these. The
weights are identified by size, time of change and header: reading them all would cost what the cache saves.

A cache must never be the reason that a run fails. An entry that is torn or altered is noticed by its
checksum and made again, and a folder that cannot be written is a warning in the log.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor

from holo_lite.errors import CheckpointError
from holo_lite.system.whole_files import write_whole
from holo_lite.text.encoder_files import encoder_file
from holo_lite.text.windows import Prompt
from holo_lite.weights.files import open_weights
from holo_lite.weights.safetensors_file import SafetensorsFile

if TYPE_CHECKING:
    from holo_lite.text.encoder import TextEncoder

logger = logging.getLogger(__name__)


class PromptCache:
    """A folder of encoded prompts; it is created at the first `put`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Tensor | None:
        """Return the rows stored under `key`, (n, d_model) on the CPU, or None where there are none.

        What is damaged or cannot be read counts as none, with a warning in the log.
        """
        path = self._path(key)
        if not os.path.lexists(path):
            return None
        try:
            return _read(path)
        except CheckpointError as error:
            logger.warning("the prompt is encoded again, since %s", str(error))
            return None

    def put(self, key: str, rows: Tensor) -> None:
        """Store `rows` (n, d_model) under `key`, whole or not at all. A failure is logged, not raised."""
        rows = rows.detach().cpu().contiguous()
        content: bytes = save({"rows": rows}, metadata={"sha256": _checksum(rows)})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._path(key), content)
        except OSError as error:
            logger.warning("the encoded prompt cannot be cached: %s", str(error))

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"


def encoder_identity(path: Path) -> str:
    """Return a hash that changes when the weights at `path`, a file or a diffusers folder, are others.

    It covers name, size, time of change (ns) and fingerprint, which reads headers and samples, not 11 GB.
    Raises `CheckpointError` when the weights cannot be opened.
    """
    main = encoder_file(path)
    fingerprint = open_weights(main).fingerprint
    sharded = main.name.endswith(".index.json")
    files = [main, *sorted(main.parent.glob("*.safetensors"))] if sharded else [main]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return _digest([facts, fingerprint])


def cache_key(prompt: Prompt, identity: str, dtype: torch.dtype) -> str:
    """Return the name under which `prompt` is stored, for the encoder of `encoder_identity`, in `dtype`."""
    return _digest([prompt.text, prompt.ids, identity, str(dtype)])


def encode_prompts(
    prompts: Sequence[Prompt],
    load_encoder: Callable[[], TextEncoder],
    cache: PromptCache,
    *,
    identity: str,
    dtype: torch.dtype,
    settle: Callable[[], None] = lambda: None,
) -> list[Tensor]:
    """Return the rows (n, d_model) on the CPU of each prompt, from the cache or newly encoded.

    `load_encoder` is called once, and only if the cache lacks a prompt; the encoder is dropped on return. `settle`
    is called before anything is kept, and raises if the encoder's weights are not to be trusted.
    """
    keys = [cache_key(prompt, identity, dtype) for prompt in prompts]
    known = {key: rows for key in keys if (rows := cache.get(key)) is not None}
    missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
    logger.info("prompts: %d known, %d to encode", len(known), len(missing))
    if missing:
        with closing(load_encoder()) as encoder:
            for key, prompt in missing.items():
                known[key] = encoder.encode(prompt.ids).cpu()
                settle()
                cache.put(key, known[key])
    return [known[key] for key in keys]


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _checksum(rows: Tensor) -> str:
    described = f"{rows.dtype} {tuple(rows.shape)} ".encode()
    return hashlib.sha256(described + rows.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def _read(path: Path) -> Tensor:
    file = SafetensorsFile(path)
    if "rows" not in file.entries:
        raise CheckpointError(f"{path}: holds no encoded prompt")
    rows = file.load("rows")
    if file.metadata.get("sha256") != _checksum(rows):
        raise CheckpointError(f"{path}: its checksum does not match its content")
    return rows
