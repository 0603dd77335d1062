"""How a model is opened: what a person chooses about device, numbers, profile, kernels and adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from holo_lite.config import Attention, Expert
from holo_lite.kernels.options import ComputeOptions
from holo_lite.system.records import FileName

Loras = Mapping[Expert, Sequence[tuple[FileName, float]]]  # files and strengths, by expert


@dataclass(frozen=True)
class ModelOptions:
    """What may be chosen when a model is opened.

    `device` is auto, cpu, cuda or cuda:N; `dtype` is auto (that of the files), bf16 or fp32; `attention` picks
    sparse or full experts where both are there; `profile` is auto, the name of a shipped profile, or a TOML file;
    `lora` are adapters to add as the model runs, files and strengths by expert
    (``{"high_noise": [("fast.safetensors", 1.0)]}``), which are read once to check their numbers. `kernel` computes
    attention: auto or a kernel's name; `compute` is auto, bf16, fp8 or int8, the numbers matrices are multiplied
    in; `fuse` is auto, on or off.
    """

    device: str = "auto"
    dtype: str = "auto"
    attention: Attention | None = None
    profile: str = "auto"
    lora: Loras = field(default_factory=dict)
    kernel: str = "auto"
    compute: str = "auto"
    fuse: str = "auto"

    @property
    def computing(self) -> ComputeOptions:
        """The part of it that decides how layers are computed."""
        return ComputeOptions(self.kernel, self.compute, self.fuse)


AS_IT_COMES = ModelOptions()


@dataclass(frozen=True)
class RecordedOptions(ModelOptions):
    """How a run's model is opened: its folder and options, resolved but for the profile. Paths are absolute."""

    model: str | None = None

    def to_load(self, otherwise: Mapping[str, Any]) -> tuple[str | None, ModelOptions]:
        """What to give to `Pipeline.load`, with some of it other than it was.

        What computes on one device may not be there on another, and is chosen again for another.
        """
        moved = otherwise.get("device", self.device) != self.device
        again = {"kernel": "auto", "fuse": "auto"} if moved else {}
        found = {**vars(self), **again, **otherwise}
        model = found.pop("model")
        return model, ModelOptions(**found)
