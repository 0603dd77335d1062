"""Which two files of a folder are the experts, and whether they are sparse or dense.

Sparse and dense experts have the same tensors, so only names can tell them apart. Where they do not, the person is
asked. Wan's own experts are dense; they serve where no expert of HoloCine lies, and never make a pair with one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from holo_lite.config import ATTENTIONS, Attention, Expert
from holo_lite.errors import CheckpointError
from holo_lite.system.units import bytes_text
from holo_lite.weights.belonging import is_other_expert, may_be_expert
from holo_lite.weights.candidate import EXACT, Candidate, Choice, choose
from holo_lite.weights.file_names import DIFFUSERS_STEM, is_network, outwards, squeezed, stem, traits
from holo_lite.weights.survey import Survey

RELEASED = re.compile(r"(?:(sparse|full)|dit)_(high_noise|low_noise)")  # dit: our own name, for either attention
OURS, NAMED, UNNAMED, WAN = (
    1,
    2,
    3,
    4,
)  # ranks behind the released names: HoloCine's by the name, nobody's, Wan's own
OTHER_PARTS = ("vae", "umt5", "t5xxl", "clip")  # in the names of other networks
NOISES: tuple[Expert, ...] = ("high_noise", "low_noise")
WHERE = "download it from hlwang06/HoloCine"
WAN_FOLDER = "Wan-AI/Wan2.2-T2V-A14B"

Candidates = Mapping[Expert, list[Candidate]]
Choices = Mapping[Expert, Choice]


@dataclass(frozen=True)
class Experts:
    """The two experts' files, how they attend, and whether they are Wan's own, not HoloCine's."""

    attention: Attention
    high_noise: Path
    low_noise: Path
    is_wan: bool


def find_experts(found: Survey, attention: Attention | None) -> Experts:
    """Find the experts; `attention` picks where both kinds are there, and tells what names do not.

    Raises `CheckpointError` for one that is missing, two that are as good, and names that do not tell the
    attention. Where only experts of other models are there, it gives those, so that the proof says what they are.
    """
    candidates = _candidates(found)
    of_wan = _kept(candidates, lambda c: c.rank == WAN)
    variant, choices = _pair(found, _kept(candidates, lambda c: c.rank != WAN), attention)
    is_wan = not any(choice.chosen for choice in choices.values()) and any(of_wan.values())
    if is_wan:
        variant, choices = _pair(found, of_wan, attention)
    paths = {noise: _path(choice) for noise, choice in choices.items()}
    for noise, path in paths.items():
        if path is None:
            raise CheckpointError(_missing(found, candidates, variant or "sparse", noise))
    high, low = (path for path in paths.values() if path is not None)
    if variant is None and all(choice.chosen for choice in choices.values()):
        raise CheckpointError(
            f"{found.root}: the names {found.shown(high)} and {found.shown(low)} do not tell sparse experts from "
            "dense ones; give --attention sparse or --attention full (wan for Wan 2.2's own)"
        )
    return Experts(variant or "sparse", high, low, is_wan)


def _pair(found: Survey, pool: Candidates, attention: Attention | None) -> tuple[Attention | None, Choices]:
    variant = attention or _told(pool)
    fitting = _kept(pool, lambda c: c.attention in {None, variant} or (c.rank == WAN and attention is not None))
    return variant, {
        noise: choose(found, some, may_be_expert, f"{noise.replace('_', '-')} expert")
        for noise, some in fitting.items()
    }


def _told(pool: Candidates) -> Attention | None:
    """The attention of which both experts are there, else that of any; sparse before dense. None: no name tells."""
    told = {noise: {candidate.attention for candidate in some} for noise, some in pool.items()}
    for of in (all, any):
        for attention in ATTENTIONS:
            if of(attention in kinds for kinds in told.values()):
                return attention
    return "sparse" if any(c.rank == OURS for some in pool.values() for c in some) else None


def _candidates(found: Survey) -> Candidates:
    pool: dict[Expert, list[Candidate]] = {noise: [] for noise in NOISES}
    for path in weight_files(found):
        for noise, candidate in _candidate(found.root, path):
            pool[noise].append(candidate)
    return pool


def weight_files(found: Survey) -> Iterator[Path]:
    """Files that hold, or index, a whole network, by their names."""
    for path in found.found:
        name = stem(path.name)
        if name and is_network(name) and is_network(path.parent.name) and path.is_file():
            yield path


def _candidate(root: Path, path: Path) -> Iterator[tuple[Expert, Candidate]]:
    name = stem(path.name)
    if released := RELEASED.fullmatch(name):
        noise = next(noise for noise in NOISES if noise == released[2])
        told = next((attention for attention in ATTENTIONS if attention == released[1]), None)
        yield noise, Candidate(path, EXACT if told else OURS, told)
        return
    found = traits(outwards(root, path))
    if (
        found.noise is None
        or any(part in squeezed(name) for part in OTHER_PARTS)
        or not _is_first_of_its_kind(path)
    ):
        return
    rank = WAN if found.is_wan else NAMED if found.is_holocine or found.attention else UNNAMED
    yield found.noise, Candidate(path, rank, found.attention)


def _is_first_of_its_kind(path: Path) -> bool:
    """Whether it is no diffusers file next to an index of shards, which goes first."""
    if stem(path.name) != DIFFUSERS_STEM:
        return True
    index = path.with_name(f"{DIFFUSERS_STEM}.safetensors.index.json")
    return path == index or not index.is_file()


def _kept(pool: Candidates, keep: Callable[[Candidate], bool]) -> Candidates:
    return {noise: [candidate for candidate in some if keep(candidate)] for noise, some in pool.items()}


def _path(choice: Choice) -> Path | None:
    """What is chosen, else the first that is an expert of another model."""
    first = choice.chosen or next((other for other in choice.others if is_other_expert(other.path)), None)
    return first.path if first is not None else None


def _missing(found: Survey, candidates: Candidates, variant: Attention, noise: Expert) -> str:
    if variant == "wan":
        return f"{found.root}: has no {noise.replace('_', '-')} expert of Wan 2.2; download it from {WAN_FOLDER}"
    name = f"{variant}_{noise}.safetensors"
    if kinds := {c.attention for c in candidates[noise] if c.attention not in {None, variant}}:
        return f"{found.root}: has no {name}, but the {kinds.pop()} one; give the other --attention, or {WHERE}"
    known = {candidate.path for some in candidates.values() for candidate in some}
    strange = [path for path in unknown_weights(found) if path not in known]
    if not strange:
        return f"{found.root}: has no {name}; {WHERE}{elsewhere(found)}"
    shown = ", ".join(f"{found.shown(path)} ({bytes_text(path.stat().st_size)})" for path in strange[:3])
    return f"{found.root}: has no {name}; if it is one of {shown}, rename it so, else {WHERE}"


def unknown_weights(found: Survey) -> list[Path]:
    """Files of weights whose names do not tell what they are, the largest first."""
    strange = [path for path in weight_files(found) if not any(p in squeezed(path.name) for p in OTHER_PARTS)]
    held = [path for path in strange if path.stat().st_size and path.parent.name not in {"vae", "text_encoder"}]
    return sorted(held, key=lambda path: -path.stat().st_size)


def elsewhere(found: Survey) -> str:
    """What to type where the folder only holds models that were converted."""
    if not found.models:
        return ""
    return f", or give a converted model in it, such as {found.shown(found.models[0])}"
