"""Everything the doctor looks at, by name, and gathering it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from holo_lite.config import Attention
from holo_lite.doctor import disk, model, nvidia, report, system, trials
from holo_lite.doctor.apart import look_apart
from holo_lite.doctor.facts import CacheFacts, DoctorTrial, Kind, MachineFacts, Trouble
from holo_lite.system.caches import sizes

LIMIT = 180.0  # seconds for one look; compiling anything takes the longest by far
# What is tried, by name. These are no imports of the registries, which bring PyTorch in; a test holds them equal.
TRIED: Mapping[Kind, tuple[str, ...]] = {
    "scheme": ("nf4", "int8", "qint8", "qint4", "qfloat8"),
    "attention": ("sdpa", "cudnn", "flash", "efficient", "flash-attn-2", "flash-attn-3", "flash-attn-4", "sage"),
    "8-bit": ("int8", "fp8"),
    "fused": ("",),
    "conv3d": ("",),
    "compile": ("",),
    "video": ("",),
}


@dataclass(frozen=True)
class ModelPlace:
    """What to check: the current folder, the caches, and a model if one was given, with its attention."""

    here: Path
    cache: Path
    model: Path | None = None
    attention: Attention | None = None

    @property
    def disk(self) -> tuple[Path, Path | None]:
        """The folder whose disk is checked, and its model. A name that is not a folder is reported elsewhere."""
        return (self.model, self.model) if self.model is not None and self.model.is_dir() else (self.here, None)


@dataclass(frozen=True)
class Seen:
    """Something was looked at."""

    name: str


FACTS: Mapping[str, Callable[[ModelPlace], Any]] = {
    "system": lambda _: system.system(),
    "packages": lambda _: system.packages(),
    "nvidia": lambda _: nvidia.nvidia(),
    "torch": lambda _: system.torch_build(),
    "machine": lambda _: model.machine(),
    "disk": lambda place: disk.disk(*place.disk),
    "model": lambda place: model.model(place.model, place.attention) if place.model is not None else None,
    "choice": lambda place: model.choice(place.model, place.attention),
    "cache": lambda place: CacheFacts(place.cache, sizes(place.cache)),
    "report": lambda _: report.report(),
}
TRIALS: Mapping[Kind, Callable[[str], DoctorTrial]] = {
    "scheme": trials.scheme,
    "attention": trials.attention,
    "8-bit": trials.eight_bit,
    "fused": lambda _: trials.fused(),
    "conv3d": lambda _: trials.conv3d(),
    "compile": lambda _: trials.compiled(),
    "video": lambda _: trials.video(),
}


NAMES = (*FACTS, *(f"{kind} {name}".rstrip() for kind, names in TRIED.items() for name in names))


def look_at(place: ModelPlace, name: str) -> Any:
    """Look at one thing. A trial's name is its kind and its own, as in ``scheme nf4``."""
    if name in FACTS:
        return FACTS[name](place)
    kind, own = _trial(name)
    return TRIALS[kind](own)


def gather(
    place: ModelPlace, names: Sequence[str] = NAMES, limit: float = LIMIT
) -> Generator[Seen | MachineFacts, None, None]:
    """Look at everything in another process: a `Seen` for each thing, and all of it in the end."""
    found = {}
    for name, seen in look_apart(partial(look_at, place), names, limit):
        found[name] = seen
        yield Seen(name)
    yield assemble(found)


def assemble(found: Mapping[str, Any]) -> MachineFacts:
    """Facts and trials as one record. A trial with trouble is broken; a missing fact is trouble, too."""
    facts = {name: found.get(name, Trouble("was not checked")) for name in FACTS}
    return MachineFacts(
        **facts, trials=tuple(_as_trial(name, seen) for name, seen in found.items() if name not in FACTS)
    )


def _as_trial(name: str, seen: DoctorTrial | Trouble) -> DoctorTrial:
    if isinstance(seen, DoctorTrial):
        return seen
    kind, own = _trial(name)
    return DoctorTrial(own or kind, kind, "broken", seen.said)


def _trial(name: str) -> tuple[Kind, str]:
    kind, _, own = name.partition(" ")
    return next(known for known in TRIALS if known == kind), own
