"""What a run was begun as, in a small JSON file that is written first and never changed.

It has the settings and the plan as resolved, and how to open the model, so that resuming decides nothing again. It
also has the circumstances on which the last bits depend.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from holo_lite.opening.options import RecordedOptions
from holo_lite.plan.plan import Plan
from holo_lite.settings import SETTINGS, RunSettings
from holo_lite.system.records import RUNS_FROM, Codec, Origin
from holo_lite.version import __version__

if TYPE_CHECKING:
    import torch

# 2: the base model may be opened, too; 3: a plan may hold a shot's inputs, and a model be opened on several devices
HELD_AND_SEVERAL = Origin(version=3, runs_from=1)
LONGEST = 24  # characters of a setting that is shown
TOOLS = ("torch", "transformers", "diffusers", "bitsandbytes", "optimum-quanto", "av")
# Settings that change only the last bits, or none: they may differ when a run resumes.
FREE = {"made_with", "plan", "device", SETTINGS.key, RUNS_FROM}


@dataclass(frozen=True)
class Record:
    """A run as it was begun.

    out: the video, seen from the run's folder. circumstances: versions, device and threads, by name.
    """

    settings: RunSettings
    plan: Plan
    opening: RecordedOptions
    out: str
    circumstances: Mapping[str, str]
    origin: Origin = HELD_AND_SEVERAL  # a change of any field, or of the plan's, is a new version

    def to_json(self) -> str:
        """Write the record as JSON, for people to read, too."""
        return RECORD.write(self, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, *, to_run: bool = True) -> Record:
        """Read a record back, to go on with its run or only to look at it. Raises `RecordError`."""
        return RECORD.read(text, to_run=to_run)


# The names of files may be no text.
RECORD = Codec(
    Record, key="holo_lite_run", upgrades={1: dict, 2: dict}, parts={"settings": SETTINGS}, surrogates=True
)


def circumstances(
    device: torch.device, computing: Mapping[str, str] = MappingProxyType({}), threads: int | None = None
) -> dict[str, str]:
    """Everything except the settings on which the last bits of a run depend, that computes as `computing` says."""
    import torch

    tools = (*TOOLS, *_packages(computing))
    found = {"holo-lite": __version__, **{tool: _version(tool) for tool in tools}, **computing}
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
        found["CUDA"] = str(torch.version.cuda)
        found["cuDNN"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    else:
        found["device"] = f"CPU with {torch.backends.cpu.get_cpu_capability()}"
        found["threads"] = str(threads or torch.get_num_threads())
    return found


def _packages(computing: Mapping[str, str]) -> Iterator[str]:
    """What computes in addition to PyTorch: an attention kernel's package, and Triton (another name on Windows)."""
    from holo_lite.kernels.registry import KERNELS

    packages = {kernel.name: kernel.package for kernel in KERNELS}
    if (package := packages.get(computing.get("kernel", ""))) is not None:
        yield package.distribution
    if computing.get("linear", "plain") != "plain" or computing.get("fused", "off") != "off":
        yield "triton-windows" if os.name == "nt" else "triton"


def difference(one: RunSettings, other: RunSettings) -> list[str]:
    """In which settings two runs are not the same video, each as ``seed 7, now 8``; empty if they are one."""
    ours, theirs = (_telling(settings) for settings in (one, other))
    pairs = {name: (ours.get(name), theirs.get(name)) for name in {**ours, **theirs}}  # a later one may have more
    return [_apart(name, *values) for name, values in pairs.items() if values[0] != values[1]]


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is another circumstance than before, each as ``torch 2.13.0, now 2.14.0``."""
    names = dict.fromkeys([*before, *now])
    shown = {name: (before.get(name, "not counted"), now.get(name, "not counted")) for name in names}
    return [f"{name} {old}, now {new}" for name, (old, new) in shown.items() if old != new]


def _telling(settings: RunSettings) -> dict[str, Any]:
    """The settings that make a different video. Of how it computes, that is only the format of products."""
    found = SETTINGS.table(settings)
    found["computing"] = found["computing"].get("linear", "")
    found["frozen"] = {**found["frozen"], "before": 0}  # what is in front of a video is not of its run
    return {name: value for name, value in found.items() if name not in FREE}


def _apart(name: str, ours: object, theirs: object) -> str:
    shown = [str(value) for value in (ours, theirs) if isinstance(value, str | int | float)]
    short = len(shown) == 2 and all(0 < len(text) <= LONGEST and text.isprintable() for text in shown)
    return f"{name} {ours}, now {theirs}" if short else f"another {name}"


def _version(package: str) -> str:
    try:
        return str(metadata.version(package))
    except metadata.PackageNotFoundError:
        return "not installed"
