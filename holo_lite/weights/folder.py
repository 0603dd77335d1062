"""Which file in a folder is what.

People keep the released files as they came, in whatever folders. They are found by their names:

    expert         sparse_high_noise, sparse_low_noise, full_high_noise, full_low_noise (.safetensors)
    text encoder   models_t5_umt5-xxl-enc-bf16 (.pth or .safetensors), or a folder text_encoder/
    VAE            Wan2.1_VAE (.pth or .safetensors), or a folder vae/
    tokenizer      tokenizer.json
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from holo_lite.config import Attention
from holo_lite.errors import CheckpointError, nearest
from holo_lite.settings import Defaults

SUFFIXES = (".safetensors", ".safetensors.index.json", ".pth", ".pt")
TEXT_ENCODER_NAMES = ("models_t5_umt5-xxl-enc-bf16", "text_encoder")
VAE_NAMES = ("Wan2.1_VAE", "vae")
WHERE = {
    "expert": "download it from hlwang06/HoloCine",
    "other": "download it from Wan-AI/Wan2.2-T2V-A14B",
}


@dataclass(frozen=True)
class ModelFolder:
    """The files of one model, and what it makes by default."""

    path: Path
    attention: Attention
    high_noise: Path
    low_noise: Path
    text_encoder: Path
    vae: Path
    tokenizer: Path
    defaults: Defaults

    @property
    def weight_paths(self) -> tuple[Path, ...]:
        """Everything that bears on the pixels."""
        return (self.high_noise, self.low_noise, self.text_encoder, self.vae, self.tokenizer)


def open_folder(path: Path, attention: Attention | None = None) -> ModelFolder:
    """Find a model's files under `path`; nothing is opened but a small ``defaults.json``.

    `attention` picks between the sparse and the full experts where both are there. Raises
    `CheckpointError` that names the file that is missing and where to get it.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder; give the folder that holds the model's files")
    files = sorted(found for found in path.rglob("*") if not found.name.startswith("."))
    variant = attention or _variant(files)
    return ModelFolder(
        path=path,
        attention=variant,
        high_noise=_expert(path, files, variant, "high_noise"),
        low_noise=_expert(path, files, variant, "low_noise"),
        text_encoder=_network(path, files, TEXT_ENCODER_NAMES, "text encoder"),
        vae=_network(path, files, VAE_NAMES, "VAE"),
        tokenizer=_tokenizer(path, files),
        defaults=_defaults(path / "defaults.json"),
    )


def _variant(files: Iterable[Path]) -> Attention:
    """Sparse, unless only the dense experts are there."""
    names = {_stem(file) for file in files}
    return "full" if "full_high_noise" in names and "sparse_high_noise" not in names else "sparse"


def _stem(file: Path) -> str:
    for suffix in SUFFIXES:
        if file.name.endswith(suffix):
            return file.name.removesuffix(suffix)
    return ""


def _expert(path: Path, files: list[Path], variant: str, noise: str) -> Path:
    names = (f"{variant}_{noise}", f"dit_{noise}")
    if found := _first(files, names):
        return found
    raise CheckpointError(f"{path}: has no {variant}_{noise}.safetensors; {WHERE['expert']}")


def _network(path: Path, files: list[Path], names: tuple[str, ...], what: str) -> Path:
    for found in files:
        if found.is_dir() and found.name == names[1] and (found / "config.json").is_file():
            return found
    if single := _first(files, names):
        return single
    raise CheckpointError(f"{path}: has no {what}, {names[0]}.pth or {names[1]}/; {WHERE['other']}")


def _first(files: list[Path], names: Iterable[str]) -> Path | None:
    for name in names:
        for file in files:
            if file.is_file() and _stem(file) == name:
                return file
    return None


def _tokenizer(path: Path, files: list[Path]) -> Path:
    for file in files:
        if file.name == "tokenizer.json":
            return file
    raise CheckpointError(f"{path}: has no tokenizer.json (google/umt5-xxl/); {WHERE['other']}")


def _defaults(path: Path) -> Defaults:
    if not path.is_file():
        return Defaults()
    known = [field.name for field in dataclasses.fields(Defaults)]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        unknown = [name for name in found if name not in known]
        if unknown:
            hint = nearest(unknown[0], known)
            raise CheckpointError(f"{path}: unknown key '{unknown[0]}'{hint}")
        return Defaults(**found)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: is not a JSON table of defaults; mend or remove it") from error


def fingerprint(identities: Iterable[str]) -> str:
    """One short name for a set of weights, from the fingerprints of its files."""
    return hashlib.sha256("\n".join(identities).encode()).hexdigest()[:16]
