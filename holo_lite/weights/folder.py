"""Which file in a folder is what.

People keep the released files as they came, in whatever folders, among those of other models. They are found by
their names, in the folder and `DEPTH` folders below it:

    expert         sparse_high_noise, sparse_low_noise, full_high_noise, full_low_noise (.safetensors, .pth, .gguf),
                   or any name with the words high and low, HoloCine's before Wan's own; diffusers' transformer/ and
                   transformer_2/, Wan's high_noise_model/ and low_noise_model/
    text encoder   models_t5_umt5-xxl-enc-bf16 (.pth or .safetensors), a folder text_encoder/, or a name with umt5
    VAE            Wan2.1_VAE (.pth or .safetensors), a folder vae/, or a name with vae
    tokenizer      google/umt5-xxl/tokenizer.json, or any other tokenizer.json

A released name goes before any other, and the nearest folder before those further down; two that are as good are
an error. Here nothing is proven: `holo_lite.opening.checks` does that, for every command. A folder with a
``model.json`` is one that was converted.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from holo_lite.config import Attention, Defaults, Expert, published
from holo_lite.errors import CheckpointError, nearest
from holo_lite.reading.files import read_text
from holo_lite.reading.trees import parse_json
from holo_lite.weights.belonging import may_be_expert
from holo_lite.weights.find_experts import Experts, find_experts
from holo_lite.weights.find_parts import find_encoder, find_tokenizer, find_vae
from holo_lite.weights.manifest import FILE_NAME, JOURNAL, Manifest, read_manifest
from holo_lite.weights.survey import Survey, survey


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
    """Find a model's files under `path` by their names; of files whose names do not tell, headers are read.

    `attention` picks between the sparse and the full experts where both are there, and tells which they are where
    their names do not. Raises `CheckpointError` that names the file that is missing and where to get it, two that
    are as good, or the folders of two models.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder; give the folder that holds the model's files")
    if (path / FILE_NAME).is_file():
        return _converted(path, read_manifest(path), attention)
    if (path / JOURNAL).is_file():
        raise CheckpointError(f"{path}: its conversion was interrupted; type the same quantize command to continue")
    found = survey(path)
    experts = find_experts(found, attention)
    folder = _assembled(found, experts)
    _check_one_model(found, folder, attention)
    return folder


def models_below(path: Path, attention: Attention | None = None) -> tuple[Path, ...]:
    """The folders below `path` that are a model each, whole, converted, or about to be converted."""
    found = survey(path)
    return tuple(sorted((*found.models, *_whole_models(found, attention))))


def holds_several(path: Path, attention: Attention | None = None) -> bool:
    """Whether a folder is not one model but lies above some: then those below it are worth naming.

    A model in whose folder others lie is one, if its own files are apart from theirs.
    """
    below = models_below(path, attention)
    if not below:
        return False
    try:
        parts = open_folder(path, attention).weight_paths
    except CheckpointError:
        return True
    return len(below) > 1 and any(model in part.parents for model in below for part in parts)


def _assembled(found: Survey, experts: Experts) -> ModelFolder:
    """The experts with all other parts of a model. Raises `CheckpointError` for one that is missing."""
    return ModelFolder(
        path=found.root,
        attention=experts.attention,
        high_noise=experts.high_noise,
        low_noise=experts.low_noise,
        text_encoder=find_encoder(found),
        vae=find_vae(found),
        tokenizer=find_tokenizer(found),
        defaults=read_defaults(found.root / "defaults.json", published(experts.attention)),
    )


def _check_one_model(found: Survey, folder: ModelFolder, attention: Attention | None) -> None:
    """Refuse parts of two models: some from a whole one below the folder and some not, or a choice between two."""
    whole = _whole_models(found, attention)
    touched = [model for model in whole if any(model in part.parents for part in folder.weight_paths)]
    apart = any(not any(model in part.parents for model in touched) for part in folder.weight_paths)
    several = whole if touched and not apart else touched
    if touched and (apart or len(several) > 1):
        names = " and ".join(map(found.shown, several[:2]))
        more = f" besides the whole one in {names}" if len(several) == 1 else f": {names}"
        raise CheckpointError(f"{found.root}: holds parts of several models{more}; give the folder of one")


def _whole_models(found: Survey, attention: Attention | None) -> list[Path]:
    """The innermost folders below that are a model each.

    Wan's own does not count: people take its text encoder, VAE and tokenizer for HoloCine's experts.
    """
    tokenizers = [path for path in found.found if path.name == "tokenizer.json"]
    folders = {folder for path in tokenizers for folder in path.parents if found.root in folder.parents}
    whole: list[Path] = []
    for folder in sorted(folders, key=lambda path: (-len(path.parts), path)):
        if not any(folder in model.parents for model in whole) and _is_whole(found.within(folder), attention):
            whole.append(folder)
    return whole


def _is_whole(found: Survey, attention: Attention | None) -> bool:
    try:
        experts = find_experts(found, attention)
        _assembled(found, experts)
    except CheckpointError:
        return False
    return not experts.is_wan and may_be_expert(experts.high_noise) and may_be_expert(experts.low_noise)


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


def read_defaults(path: Path, usual: Defaults = Defaults()) -> Defaults:  # noqa: B008
    """What a ``defaults.json`` says; without one, and where it says nothing, the usual.

    Raises `CheckpointError`.
    """
    if not path.is_file():
        return usual
    known = {**dataclasses.asdict(usual), "cfg_low": 1.0}
    try:
        found = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is not JSON; fix or remove it") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: is not a JSON table of defaults; fix or remove it")
    for name, value in found.items():
        if name not in known:
            raise CheckpointError(f"{path}: unknown key {name!a:.80}{nearest(name, known)}")
        if not _suits(value, known[name]) and not (name == "cfg_low" and value is None):
            raise CheckpointError(f"{path}: {name} is {value!r:.40}; give a value like {known[name]!r:.40}")
    return dataclasses.replace(usual, **found)


def _suits(value: object, default: object) -> bool:
    """Whether a value can replace `default`; whole numbers may replace any number."""
    return type(value) is type(default) or (type(value) is int and isinstance(default, float))


def fingerprint(identities: Iterable[str]) -> str:
    """One short name for a set of weights, from the fingerprints of its files."""
    return hashlib.sha256("\n".join(identities).encode()).hexdigest()[:16]
