"""Which file or folder of a model is its text encoder, its VAE, its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from holo_lite.errors import CheckpointError
from holo_lite.weights.belonging import may_be_encoder, may_be_tokenizer, may_be_vae
from holo_lite.weights.candidate import EXACT, Candidate, choose
from holo_lite.weights.file_names import squeezed, stem, words
from holo_lite.weights.find_experts import elsewhere, weight_files
from holo_lite.weights.survey import DEPTH, Survey

ENCODER, VAE = "models_t5_umt5-xxl-enc-bf16", "Wan2.1_VAE"  # the released files' names, without suffix
FOLDER, KNOWN, GENERAL = 1, 2, 3  # ranks behind them: diffusers' folder, a name in common use, any other
WHERE = "download it from Wan-AI/Wan2.2-T2V-A14B"


def find_encoder(found: Survey) -> Path:
    """Find the text encoder. Raises `CheckpointError` where none is there, or two as good."""
    return _find(found, _encoders(found), may_be_encoder, "text encoder", f"{ENCODER}.pth or text_encoder/")


def find_vae(found: Survey) -> Path:
    """Find the VAE. Raises `CheckpointError` where none is there, or two as good."""
    return _find(found, _vaes(found), may_be_vae, "VAE", f"{VAE}.pth or vae/")


def find_tokenizer(found: Survey) -> Path:
    """Find the tokenizer. Raises `CheckpointError` where none is there, or two as good.

    A small model has a vocabulary of its own; without umt5's it is the first of the others, for the proof to judge.
    """
    candidates = [
        Candidate(path, _tokenizer_rank(found.root, path))
        for path in found.found
        if path.name == "tokenizer.json" and path.is_file()
    ]
    choice = choose(found, candidates, may_be_tokenizer, "tokenizer")
    first = choice.chosen or next(iter(choice.others), None)
    if first is None:
        raise CheckpointError(_missing(found, "tokenizer.json (google/umt5-xxl/)"))
    return first.path


def _find(
    found: Survey, candidates: Iterator[Candidate], may_be: Callable[[Path], bool], what: str, names: str
) -> Path:
    choice = choose(found, candidates, may_be, what)
    if choice.chosen is not None:
        return choice.chosen.path
    other = f"; {found.shown(choice.others[0].path)} is of another model" if choice.others else ""
    raise CheckpointError(_missing(found, f"{what}, {names}{other}"))


def _missing(found: Survey, what: str) -> str:
    return f"{found.root}: has no {what}; {WHERE}{elsewhere(found)} (looked {DEPTH} folders deep)"


def _encoders(found: Survey) -> Iterator[Candidate]:
    yield from _folders(found, "text_encoder")
    for path in weight_files(found):
        name = stem(path.name)
        if name == ENCODER:
            yield Candidate(path, EXACT)
        elif "umt5xxl" in squeezed(name):
            yield Candidate(path, KNOWN)
        elif "umt5" in squeezed(name):
            yield Candidate(path, GENERAL)


def _vaes(found: Survey) -> Iterator[Candidate]:
    yield from _folders(found, "vae")
    for path in weight_files(found):
        name = stem(path.name)
        if name == VAE:
            yield Candidate(path, EXACT)
        elif "vae" in words(name):
            yield Candidate(path, KNOWN if "wan21" in squeezed(name) else GENERAL)


def _folders(found: Survey, name: str) -> Iterator[Candidate]:
    """Diffusers' folders of that name."""
    for path in found.found:
        if path.name == name and (path / "config.json").is_file():
            yield Candidate(path, FOLDER)


def _tokenizer_rank(root: Path, path: Path) -> int:
    """Wan's own place goes first, then the folder itself and diffusers' place, then any other."""
    inside = path.relative_to(root).parts[:-1]
    if inside[-2:] == ("google", "umt5-xxl"):
        return EXACT
    if not inside or "umt5" in squeezed(inside[-1]):
        return FOLDER
    return KNOWN if inside[-1] == "tokenizer" else GENERAL
