"""Which file in a folder is what.

People keep the released files as they came, in whatever folders. They are found by their names:

    expert         sparse_high_noise, sparse_low_noise, full_high_noise, full_low_noise (.safetensors)
    text encoder   models_t5_umt5-xxl-enc-bf16 (.pth or .safetensors), or a folder text_encoder/
    VAE            Wan2.1_VAE (.pth or .safetensors), or a folder vae/
    tokenizer      tokenizer.json

An expert may also be a diffusers folder (transformer/ and transformer_2/), or any one file with high_noise or
low_noise in its name, GGUF among them. A folder with a ``model.json`` is one that was converted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from holo_lite.config import Attention, Defaults, Expert
from holo_lite.errors import CheckpointError, first_three, nearest
from holo_lite.weights.manifest import FILE_NAME, JOURNAL, Manifest, read_manifest

SUFFIXES = (".safetensors.index.json", ".safetensors", ".pth", ".pt", ".gguf")
DIFFUSERS_EXPERTS = {"high_noise": "transformer", "low_noise": "transformer_2"}
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
    def experts(self) -> dict[Expert, Path]:
        """The two experts' files."""
        return {"high_noise": self.high_noise, "low_noise": self.low_noise}

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
    if (path / FILE_NAME).is_file():
        return _converted(path, read_manifest(path), attention)
    if (path / JOURNAL).is_file():
        raise CheckpointError(f"{path}: its conversion was interrupted; type the same quantize command to continue")
    files = sorted(found for found in path.rglob("*") if not _is_hidden(found.relative_to(path)))
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


def _converted(path: Path, manifest: Manifest, attention: Attention | None) -> ModelFolder:
    """A folder that `holo-lite quantize` wrote."""
    for role in ("high_noise", "low_noise", "text_encoder", "vae"):
        if role not in manifest.components:
            raise CheckpointError(f"{path}: was converted without its {role}; convert the model again")
    if attention not in {None, manifest.attention}:
        raise CheckpointError(
            f"{path}: was converted from {manifest.attention} experts; convert the {attention} ones elsewhere"
        )
    if not (path / "tokenizer.json").is_file():
        raise CheckpointError(f"{path}: its tokenizer.json is missing; convert the model again")
    return ModelFolder(
        path=path,
        attention=manifest.attention,
        high_noise=path / "high_noise",
        low_noise=path / "low_noise",
        text_encoder=path / "text_encoder",
        vae=path / "vae",
        tokenizer=path / "tokenizer.json",
        defaults=manifest.defaults,
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


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
    if found := _first(files, names) or _first_in(files, DIFFUSERS_EXPERTS[noise]):
        return found
    spelled, other = noise.replace("_", ""), "full_" if variant == "sparse" else "sparse_"
    stems = {file: _stem(file).lower() for file in files if not _stem(file).startswith(other)}
    similar = [file for file, stem in stems.items() if spelled in re.sub("[-_ ]", "", stem)]
    if len(similar) > 1:
        found_names = [file.name for file in similar]
        raise CheckpointError(
            f"{path}: has several {noise} experts, {first_three(found_names)}; keep one of them there"
        )
    if similar:
        return similar[0]
    raise CheckpointError(f"{path}: has no {variant}_{noise}.safetensors; {WHERE['expert']}")


def _network(path: Path, files: list[Path], names: tuple[str, ...], what: str) -> Path:
    for found in files:
        if found.is_dir() and found.name == names[1] and (found / "config.json").is_file():
            return found
    if single := _first(files, names):
        return single
    raise CheckpointError(f"{path}: has no {what}, {names[0]}.pth or {names[1]}/; {WHERE['other']}")


def _first_in(files: list[Path], folder: str) -> Path | None:
    """The weights of a diffusers expert: an index of shards, or one file."""
    inside = [file for file in files if file.parent.name == folder and _stem(file) == "diffusion_pytorch_model"]
    return min(inside, key=lambda file: not file.name.endswith(".index.json"), default=None)


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
    known = dataclasses.asdict(Defaults())
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not JSON; fix or remove it") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: is not a JSON table of defaults; fix or remove it")
    for name, value in found.items():
        if name not in known:
            raise CheckpointError(f"{path}: unknown key '{name}'{nearest(name, known)}")
        if not _suits(value, known[name]):
            raise CheckpointError(f"{path}: {name} is {value!r:.40}; give a value like {known[name]!r:.40}")
    return Defaults(**found)


def _suits(value: object, default: object) -> bool:
    """Whether a value can replace `default`; whole numbers may replace any number."""
    return type(value) is type(default) or (type(value) is int and isinstance(default, float))


def fingerprint(identities: Iterable[str]) -> str:
    """One short name for a set of weights, from the fingerprints of its files."""
    return hashlib.sha256("\n".join(identities).encode()).hexdigest()[:16]
