"""How a model is opened: what a person chooses about device, numbers, profile, kernels and adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holo_lite.config import Attention
from holo_lite.errors import SettingsError
from holo_lite.kernels.options import ComputeOptions
from holo_lite.opening.given import GivenLoras, Loras, adapters_by_expert, device_text, dtype_text
from holo_lite.reading import values

if TYPE_CHECKING:
    import torch

HOW = ("kernel", "compute", "fuse")


@dataclass(frozen=True, init=False)
class ModelOptions:
    """What may be chosen when a model is opened.

    `device` is auto, cpu, cuda, cuda:N or a ``torch.device``; `dtype` is auto (that of the files), bf16, fp32,
    ``torch.bfloat16`` or ``torch.float32``; `attention` picks sparse or full experts where both are there;
    `profile` is auto, the name of a shipped profile, or a TOML file; `lora` are adapters to add as the model runs,
    files or files with strengths by expert (``{"high": ("fast.safetensors", 0.8)}``), which are read once to check
    their numbers. `kernel` computes attention: auto or a kernel's name; `compute` is auto, bf16, fp8 or int8, the
    numbers matrices are multiplied in; `fuse` is auto, on or off. `devices` are several that compute a clip
    together, the first in place of `device` (``("auto",)``: all cards). Raises `SettingsError` for a value of
    another type.
    """

    device: str = "auto"
    dtype: str = "auto"
    attention: Attention | None = None
    profile: str = "auto"
    lora: Loras = field(default_factory=dict)
    kernel: str = "auto"
    compute: str = "auto"
    fuse: str = "auto"
    devices: tuple[str, ...] = ()

    def __init__(
        self,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        attention: Attention | None = None,
        profile: str | Path = "auto",
        lora: GivenLoras | None = None,
        kernel: str = "auto",
        compute: str = "auto",
        fuse: str = "auto",
        devices: Sequence[str | torch.device] = (),
    ) -> None:
        kept = {
            "device": device_text(device),
            "dtype": dtype_text(dtype),
            "attention": attention if attention is None else values.text("attention", attention),
            "profile": profile if isinstance(profile, str) else str(values.path("profile", profile)),
            "lora": adapters_by_expert(lora),
            **{name: values.text(name, given) for name, given in zip(HOW, (kernel, compute, fuse), strict=True)},
            "devices": tuple(device_text(each) for each in devices),
        }
        for name, value in kept.items():
            object.__setattr__(self, name, value)
        if self.devices and self.device not in {"auto", self.devices[0]}:
            raise SettingsError("device and devices: both name where to compute; give only one of them")

    @property
    def computing(self) -> ComputeOptions:
        """The part of it that decides how layers are computed."""
        return ComputeOptions(self.kernel, self.compute, self.fuse)


AS_IT_COMES = ModelOptions()


def check_model_options(options: ModelOptions) -> None:
    """Raise `SettingsError` for what a caller without a type checker may give in the place of options."""
    if not isinstance(options, ModelOptions):
        raise values.wrong("options", options, 'ModelOptions, such as ModelOptions(dtype="bf16")')


@dataclass(frozen=True)
class RecordedOptions(ModelOptions):
    """How a run's model is opened: its folder and options, resolved but for the profile. Paths are absolute."""

    model: str | None = None

    def to_load(self, otherwise: Mapping[str, Any]) -> tuple[str | None, ModelOptions]:
        """What to give to `Pipeline.load`, with some of it other than it was.

        What computes on one device may not be there on another, and is chosen again for another.
        """
        moved = otherwise.get("device", self.device) != self.device
        again: dict[str, Any] = {"kernel": "auto", "fuse": "auto"} if moved else {}
        again |= {"devices": ()} if "device" in otherwise else {}
        found = {**vars(self), **again, **otherwise}
        model = found.pop("model")
        return model, ModelOptions(**found)
