"""What was found out about a machine, as plain records: no judgement yet, and nothing that looks.

Every field of `MachineFacts` is what a probe found or the `Trouble` it had. Sizes are in bytes by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from holo_lite.plan.machine import Machine

Version = tuple[int, ...]
Kind = Literal["scheme", "attention", "8-bit", "fused", "conv3d", "compile", "video"]


@dataclass(frozen=True)
class Trouble:
    """Why something could not be found out: what was raised, or how the process that looked came to its end."""

    said: str


@dataclass(frozen=True)
class SystemFacts:
    """The system by Python's name for it (Linux, Windows, Darwin), and the variables that bear on CUDA."""

    name: str
    python: str
    bits: int
    is_wsl: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PackageFacts:
    """A requirement of ours that is not met. found: the installed version; None if there is none."""

    requirement: str
    found: str | None


@dataclass(frozen=True)
class DriverFacts:
    """What the driver says of itself and its cards, whatever PyTorch sees.

    driver: as ``580.65.06``; cuda: the newest CUDA it runs; trouble: what its own tool complains of; by_nvml:
    whether the driver itself was asked. A card in the computer without a driver has neither driver nor CUDA.
    """

    cards: tuple[str, ...] = ()
    driver: str = ""
    cuda: Version | None = None
    trouble: str = ""
    by_nvml: bool = False


@dataclass(frozen=True)
class CardFacts:
    """A card as PyTorch sees it. capability: of compute, such as (8, 9)."""

    name: str
    capability: Version


@dataclass(frozen=True)
class TorchFacts:
    """PyTorch's build and what it sees.

    cuda, rocm: what it is built for, None if it is not; cudnn: as 91501 for 9.15.1; codes: the architectures it has
    machine code for, as ``sm_89``; refusal: why a build for CUDA sees no card.
    """

    version: str
    cuda: str | None = None
    rocm: str | None = None
    cudnn: int | None = None
    codes: tuple[str, ...] = ()
    cards: tuple[CardFacts, ...] = ()
    refusal: str = ""


@dataclass(frozen=True)
class DiskFacts:
    """A folder's disk. rate: bytes a second of a read, None if none was possible; by_cache: memory may have helped.

    of: what was read.
    """

    folder: Path
    free: int
    rate: float | None = None
    by_cache: bool = False
    of: str = ""


@dataclass(frozen=True)
class DoctorTrial:
    """Something that was run on a small input.

    outcome: `works`; `not here`, which is not a fault: it is for other cards, or an extra that is not installed;
    `broken`. said: how well it works, or why it does not.
    """

    name: str
    kind: Kind
    outcome: Literal["works", "not here", "broken"]
    said: str = ""


@dataclass(frozen=True)
class ModelFacts:
    """A model's folder. problem: why it is none, or not whole."""

    folder: Path
    attention: str = ""
    scheme: str = ""
    is_converted: bool = False
    problem: str = ""


@dataclass(frozen=True)
class ProfileFacts:
    """The profile a run here would take, and why. fits: whether the trained length fits into it."""

    why: str
    fits: bool


@dataclass(frozen=True)
class CacheFacts:
    """Where our caches are, and the bytes of each part."""

    folder: Path
    parts: Mapping[str, int]


@dataclass(frozen=True)
class SourceFacts:
    """The version of holo-lite; in a checkout its commit, too, and whether files of it were changed since."""

    version: str
    commit: str | None = None
    changed: bool | None = None


@dataclass(frozen=True)
class VersionFacts:
    """Versions by distribution; missing: those required that are not there; not_installed: optional ones."""

    python: str
    installed: Mapping[str, str]
    missing: tuple[str, ...] = ()
    not_installed: tuple[str, ...] = ()


@dataclass(frozen=True)
class HardwareFacts:
    """The processor, the memory in bytes, and the system. None: not known.

    cores: physical ones; threads: logical ones; usable: those this process may have; container_limit: bytes.
    """

    processor: str
    machine: str
    cores: int | None
    threads: int | None
    usable: int | None
    ram: int
    ram_free: int
    container_limit: int | None
    distribution: str
    kernel: str


@dataclass(frozen=True)
class ReportFacts:
    """What a bug report needs besides. is_set: whether a variable is set; its value stays private."""

    source: SourceFacts
    versions: VersionFacts
    hardware: HardwareFacts
    encodings: Mapping[str, str]
    is_set: Mapping[str, bool]


@dataclass(frozen=True)
class MachineFacts:
    """Everything the doctor knows. No model: None was named."""

    system: SystemFacts | Trouble
    packages: tuple[PackageFacts, ...] | Trouble
    nvidia: DriverFacts | Trouble
    torch: TorchFacts | Trouble
    machine: Machine | Trouble
    disk: DiskFacts | Trouble
    model: ModelFacts | Trouble | None
    choice: ProfileFacts | Trouble
    cache: CacheFacts | Trouble
    report: ReportFacts | Trouble
    trials: tuple[DoctorTrial, ...] = ()
