"""The system, Python, the installed packages, and PyTorch's build."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import struct
from typing import Any

from holo_lite.doctor.facts import CardFacts, PackageFacts, SystemFacts, TorchFacts
from holo_lite.system.pinning import is_wsl

VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING")
OURS = "holo-lite"


def system() -> SystemFacts:
    """Ask Python."""
    return SystemFacts(
        name=platform.system(),
        python=platform.python_version(),
        bits=8 * struct.calcsize("P"),
        is_wsl=is_wsl(),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
    )


def packages() -> tuple[PackageFacts, ...]:
    """Those of our requirements that are not met. Of a copy that was never installed nothing is known."""
    from packaging.requirements import Requirement

    try:
        required = importlib.metadata.requires(OURS) or []
    except importlib.metadata.PackageNotFoundError:
        return ()
    found = []
    for requirement in map(Requirement, required):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            found.append(PackageFacts(f"{requirement.name}{requirement.specifier}", version))
    return tuple(found)


def installed(name: str) -> str | None:
    """The version of a package, by its metadata."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def torch_build() -> TorchFacts:
    """What PyTorch is built for, and what it sees."""
    import torch

    cards, refusal = _cards()
    version: Any = torch.version
    return TorchFacts(
        version=torch.__version__,
        cuda=version.cuda,
        rocm=getattr(version, "hip", None),
        cudnn=torch.backends.cudnn.version() if version.cuda else None,  # type: ignore[no-untyped-call]
        codes=tuple(torch.cuda.get_arch_list()) if cards else (),
        cards=cards,
        refusal=refusal,
    )


def _cards() -> tuple[tuple[CardFacts, ...], str]:
    """The cards, or why a build for CUDA sees none."""
    import torch

    if torch.cuda.is_available():
        indices = range(torch.cuda.device_count())
        return tuple(
            CardFacts(torch.cuda.get_device_name(i), torch.cuda.get_device_capability(i)) for i in indices
        ), ""
    if torch.version.cuda is None:
        return (), ""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return (), str(error).splitlines()[0]
    return (), "no card is visible"
