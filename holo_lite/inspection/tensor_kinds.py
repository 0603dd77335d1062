"""What a file of tensors is, by their names and shapes and by where it lies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from holo_lite.config import LATENT_CHANNELS
from holo_lite.errors import CheckpointError
from holo_lite.inspection.kinds import Kind
from holo_lite.lora.keys import parse_key
from holo_lite.runs.folder_names import KEPT_SETTINGS, RECORD, SEAL
from holo_lite.runs.state_facts import CACHES, FACTS, LATENTS, STATE
from holo_lite.weights.manifest import FILE_NAME, JOURNAL
from holo_lite.weights.plain_header import FILLER, read_plain_header

Shapes = Mapping[str, tuple[int, ...]]
ROLES = ("high_noise", "low_noise", "text_encoder", "vae")
PACKED = re.compile(r".+\.weight\.codes")
OTHER_ADAPTERS = re.compile(r"(^|[._])(lora|lokr|loha|hada|dora|oft)(_|\.|$)")  # which are not read here
FEW = 4  # tensors of a file that holds latents


def weights_kind(path: Path) -> Kind:
    """What a file of weights is. One that cannot be read is a checkpoint, whose description says what is wrong."""
    try:
        if path.suffix == ".safetensors":
            header = read_plain_header(path)
            shapes = {name: entry.shape for name, entry in header.entries.items()}
            return _of_a_run(path, shapes, header.metadata) or _of_tensors(path, shapes)
        from holo_lite.weights.files import open_weights  # PyTorch, which safetensors do not need

        entries = open_weights(path).entries
    except CheckpointError:
        return _by_place(path)
    return _of_tensors(path, {name: entry.shape for name, entry in entries.items()})


def is_part(path: Path) -> bool:
    """Whether a folder is one of a converted model's, or of one that is being converted."""
    above = path.absolute()
    return above.name in ROLES and any((above.parent / name).is_file() for name in (FILE_NAME, JOURNAL))


def is_latents(shapes: Shapes) -> bool:
    """Whether a file holds latents and little else: (16, F, h, w), or several of these."""
    return 0 < len(shapes) <= FEW and any(latents_among(shapes))


def latents_among(shapes: Shapes) -> Iterable[str]:
    """The names of tensors that are latents by their shape."""
    return (name for name, shape in shapes.items() if _is_latent(shape))


def _is_latent(shape: tuple[int, ...]) -> bool:
    return len(shape) in {4, 5} and shape[-4] == LATENT_CHANNELS and all(shape)


def _of_a_run(path: Path, shapes: Shapes, metadata: Mapping[str, str]) -> Kind | None:
    """A run's own files, what is kept of a finished one, and a prompt's in the cache."""
    if SEAL in shapes and LATENTS in shapes and KEPT_SETTINGS in metadata:
        return "kept latents"
    if FACTS in metadata and LATENTS in shapes:
        return "run state"
    if SEAL in shapes and path.match(CACHES):
        return "step cache"
    return "encoded prompt" if "rows" in shapes and SEAL in metadata else None


def _of_tensors(path: Path, shapes: Shapes) -> Kind:
    if is_part(path.absolute().parent) or any(n.startswith(FILLER) or PACKED.fullmatch(n) for n in shapes):
        return "block file"
    if any(parse_key(name) is not None or OTHER_ADAPTERS.search(name) for name in shapes):
        return "LoRA"
    return "latents" if is_latents(shapes) else "checkpoint"


def _by_place(path: Path) -> Kind:
    """What a damaged file must have been."""
    if (path.parent / RECORD).is_file():
        if path.name == STATE:
            return "run state"
        if path.match(CACHES):
            return "step cache"
    return "checkpoint"
