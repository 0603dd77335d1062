"""An opened model: this folder, on this device, computed in this way.

Opening checks every file by names and shapes and reads no weight. Whoever plans, runs, measures or examines a model
takes this one object.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from holo_lite.config import Expert
from holo_lite.kernels.computing import ComputeSetup, choose_computing
from holo_lite.kernels.options import ComputeOptions
from holo_lite.opening.adapters import Adapters, open_adapters
from holo_lite.opening.checks import check_runnable, dtype_name, find_model, model_fingerprint, pick_dtype
from holo_lite.opening.given import Loras
from holo_lite.opening.options import AS_IT_COMES, ModelOptions, RecordedOptions
from holo_lite.plan.opened import expert_sizes, folder_sizes
from holo_lite.plan.sizes import ModelSizes
from holo_lite.settings import BUILT_IN
from holo_lite.streaming.experts import ExpertSetup
from holo_lite.system.device import pick_device
from holo_lite.tiny.model import NAME
from holo_lite.weights.files import open_weights
from holo_lite.weights.folder import ModelFolder
from holo_lite.weights.weight_file import WeightFile

NARROW = 512  # width of a model whose tensors are so small that threads only wait for each other
logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class OpenedModel:
    """A model folder on a device, and how it is computed there.

    `options` are those it was opened with, `setup` is what they came to, and `sizes` are what a plan counts with.
    `headers` are the experts' files as they were opened, without weights.
    """

    folder: ModelFolder
    device: torch.device
    dtype: torch.dtype
    fingerprint: str
    sizes: ModelSizes
    options: ModelOptions = AS_IT_COMES
    adapters: Adapters = field(default_factory=Adapters)
    setup: ComputeSetup = field(default_factory=ComputeSetup)
    headers: Mapping[Expert, WeightFile] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.summary})"

    @property
    def summary(self) -> str:
        """Name, attention, numbers, device and adapters, for a person."""
        name = NAME if self.is_built_in else self.folder.path.absolute().name
        count = len(self.adapters.record)
        added = [] if not count else ["1 LoRA" if count == 1 else f"{count} LoRAs"]
        return ", ".join([name, self.folder.attention, dtype_name(self.dtype), str(self.device), *added])

    @property
    def is_built_in(self) -> bool:
        """Whether it is holo-tiny, which comes with the program."""
        return self.fingerprint.startswith(BUILT_IN)

    @property
    def experts(self) -> ExpertSetup:
        """What streams its two experts."""
        adapters = self.adapters.by_expert
        return ExpertSetup(self.folder.experts, self.dtype, self.device, self.setup.compute, adapters)

    @property
    def decode_dtype(self) -> torch.dtype:
        """The numbers the VAE computes in: a CPU convolves fp32 faster."""
        return self.dtype if self.device.type == "cuda" else torch.float32

    @property
    def threads(self) -> int:
        """With how many threads a CPU is fastest: one for a model whose tensors are small."""
        return 1 if self.sizes.config.dim < NARROW and self.device.type == "cpu" else torch.get_num_threads()

    @property
    def resolved(self) -> ModelOptions:
        """The options with nothing left open but the profile, which depends on the clip."""
        return dataclasses.replace(
            self.options,
            device=str(self.device),
            dtype=dtype_name(self.dtype),
            attention=self.folder.attention,
            **vars(self.setup.choice),
        )

    @property
    def recorded(self) -> RecordedOptions:
        """How to open this model again, for a run's record."""
        options, path = self.resolved, Path(self.options.profile)
        lora = {
            expert: [(str(Path(file).absolute()), strength) for file, strength in given]
            for expert, given in options.lora.items()
        }
        profile = str(path.absolute()) if path.is_file() else options.profile
        folder = None if self.is_built_in else str(self.folder.path.absolute())
        return RecordedOptions(**{**vars(options), "lora": lora, "profile": profile}, model=folder)

    @property
    def traits(self) -> dict[str, Any]:
        """The fields of a run's settings that the model decides."""
        return {
            "attention": self.folder.attention,
            "dtype": dtype_name(self.dtype),
            "model": self.fingerprint,
            "lora": self.adapters.record,
            "device": self.device.type,
            "computing": self.setup.record,
        }

    def computed_as(self, choice: ComputeOptions) -> OpenedModel:
        """This model, computed by another choice. Raises `SettingsError` for what cannot be had here."""
        setup = choose_computing(
            choice, self.sizes.config, device=self.device, dtype=self.dtype, scheme=self.sizes.scheme
        )
        return dataclasses.replace(self, setup=setup)

    def adapted(self, lora: Loras) -> OpenedModel:
        """This model with other adapters; no expert is opened again. Raises `CheckpointError`."""
        adapters, number = open_adapters(self.folder, lora, self.headers), self.dtype.itemsize
        high, low = (
            expert_sizes(self.headers[expert], number, adapters.by_expert.get(expert))
            for expert in ("high_noise", "low_noise")
        )
        sizes = dataclasses.replace(self.sizes, high_noise=high, low_noise=low)
        options = dataclasses.replace(self.options, lora=lora)
        return dataclasses.replace(self, options=options, adapters=adapters, sizes=sizes)


def open_model(path: Path, options: ModelOptions = AS_IT_COMES, *, built_in: bool = False) -> OpenedModel:
    """Open a model folder and check every file in it by names and shapes; no weight is read.

    Raises `CheckpointError`, `SettingsError`, or `RoomError` for a card that is too full to be asked or tried.
    """
    folder = find_model(path, options.attention)
    check_runnable(folder)
    device, dtype = pick_device(options.device), pick_dtype(options.dtype, folder.high_noise)
    headers = {expert: open_weights(file) for expert, file in folder.experts.items()}
    adapters = open_adapters(folder, options.lora, headers)
    sizes = folder_sizes(folder, dtype.itemsize, adapters.by_expert)
    setup = choose_computing(options.computing, sizes.config, device=device, dtype=dtype, scheme=sizes.scheme)
    sizes = dataclasses.replace(sizes, linear=setup.compute.linear, workspace=setup.workspace)
    number = dtype_name(dtype)
    logger.info("%s: %s, %s attention, %s on %s", path, sizes.scheme, folder.attention, number, device)
    fingerprint = (BUILT_IN if built_in else "") + model_fingerprint(folder)
    return OpenedModel(folder, device, dtype, fingerprint, sizes, options, adapters, setup, headers)
