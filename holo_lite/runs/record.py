"""What a run was begun as, in a small JSON file that is written first and never changed.

It has the settings and the plan as resolved, and how to open the model, so that resuming decides nothing again. It
also has the circumstances on which the last bits depend.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from holo_lite.config import Attention, Expert
from holo_lite.kernels.registry import KERNELS
from holo_lite.plan.fit import Plan
from holo_lite.plan.saved import plan_from_json, plan_to_json
from holo_lite.settings import RunSettings
from holo_lite.version import __version__

VERSION = 1
LONGEST = 24  # characters of a setting that is shown
TOOLS = ("torch", "transformers", "diffusers", "bitsandbytes", "optimum-quanto", "av")
FREE = {
    "made_with",
    "plan",
    "device",
}  # settings that change only the last bits: they may differ when a run resumes


@dataclass(frozen=True)
class Opening:
    """How the model of a run is opened: the arguments of `Pipeline.load`, as resolved but for the profile.

    Paths are absolute. `lora` are files and strengths by expert.
    """

    model: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    attention: Attention | None = None
    profile: str = "auto"
    lora: Mapping[Expert, Sequence[tuple[str | Path, float]]] = field(default_factory=dict)
    kernel: str = "auto"
    compute: str = "auto"
    fuse: str = "auto"

    @classmethod
    def of(
        cls,
        model: str | Path | None,
        device: torch.device,
        dtype: str,
        attention: Attention,
        profile: str,
        lora: Mapping[Expert, Sequence[tuple[str | Path, float]]],
    ) -> Opening:
        """What to remember of arguments that were given, and of what they were resolved to."""
        return cls(
            model=None if model is None else str(Path(model).absolute()),
            device=str(device),
            dtype=dtype,
            attention=attention,
            profile=str(Path(profile).absolute()) if Path(profile).is_file() else profile,
            lora={
                expert: [(str(Path(file).absolute()), strength) for file, strength in given]
                for expert, given in lora.items()
            },
        )

    def arguments(self, otherwise: Mapping[str, Any]) -> dict[str, Any]:
        """What to give to `Pipeline.load`, with some of it other than it was.

        A kernel of one device may be missing on another, so it is chosen again for another device.
        """
        moved = otherwise.get("device", self.device) != self.device
        anew = {"kernel": "auto", "fuse": "auto"} if moved else {}
        return {**vars(self), **anew, **otherwise}


@dataclass(frozen=True)
class Record:
    """A run as it was begun.

    out: the video, seen from the run's folder. circumstances: versions, device and threads, by name.
    """

    settings: RunSettings
    plan: Plan
    opening: Opening
    out: str
    circumstances: Mapping[str, str]

    def to_json(self) -> str:
        """Write the record as JSON, for people to read, too."""
        found = {
            "holo_lite_run": VERSION,
            "settings": json.loads(self.settings.to_json()),
            "plan": plan_to_json(self.plan),
            "opening": dataclasses.asdict(self.opening),
            "out": self.out,
            "circumstances": self.circumstances,
        }
        return json.dumps(found, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read a record back. Raises `OutputError`, `KeyError`, `TypeError` or `ValueError` if it is none."""
        found = json.loads(text)
        if found["holo_lite_run"] != VERSION:
            raise ValueError(f"a run of version {found['holo_lite_run']}")
        settings = RunSettings.from_json(json.dumps(found["settings"]))
        plan = plan_from_json(found["plan"])
        opening = Opening(**found["opening"])
        return cls(settings, plan, opening, str(found["out"]), dict(found["circumstances"]))


def circumstances(device: torch.device, computing: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Everything except the settings on which the last bits of a run depend, that computes as `computing` says."""
    tools = (*TOOLS, *_packages(computing))
    found = {"holo-lite": __version__, **{tool: _version(tool) for tool in tools}, **computing}
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
        found["CUDA"] = str(torch.version.cuda)
        found["cuDNN"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    else:
        found["device"] = f"CPU with {torch.backends.cpu.get_cpu_capability()}"
        found["threads"] = str(torch.get_num_threads())
    return found


def _packages(computing: Mapping[str, str]) -> Iterator[str]:
    """What computes in addition to PyTorch: an attention kernel's package, and Triton (another name on Windows)."""
    packages = {kernel.name: kernel.package for kernel in KERNELS}
    if (package := packages.get(computing.get("kernel", ""))) is not None:
        yield package.distribution
    if computing.get("linear", "plain") != "plain" or computing.get("fused", "off") != "off":
        yield "triton-windows" if os.name == "nt" else "triton"


def difference(one: RunSettings, other: RunSettings) -> list[str]:
    """In which settings two runs are not the same video, each as ``seed 7, now 8``; empty if they are one."""
    ours, theirs = (_telling(settings) for settings in (one, other))
    return [_apart(name, ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]]


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is another circumstance than before, each as ``torch 2.13.0, now 2.14.0``."""
    names = dict.fromkeys([*before, *now])
    shown = {name: (before.get(name, "not counted"), now.get(name, "not counted")) for name in names}
    return [f"{name} {old}, now {new}" for name, (old, new) in shown.items() if old != new]


def _telling(settings: RunSettings) -> dict[str, Any]:
    """The settings that make a different video. Of how it computes, that is only the format of products."""
    found = json.loads(settings.to_json())
    found["computing"] = found["computing"].get("linear", "")
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
