"""Both experts as a run takes them: their files, and how they are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from holo_lite.cancel import Cancel
from holo_lite.config import Expert
from holo_lite.lora.adaptation import Adaptation
from holo_lite.model.compute import PLAIN, Compute
from holo_lite.streaming.disk import Witness, nobody
from holo_lite.streaming.experts import StreamedExperts


@dataclass(frozen=True)
class ExpertSetup:
    """Both experts' files, and how they are computed."""

    paths: Mapping[Expert, Path]
    dtype: torch.dtype
    device: torch.device
    compute: Compute = PLAIN
    adapters: Mapping[Expert, Adaptation] = field(default_factory=dict)

    def stream(
        self, forwards: Mapping[Expert, int], cancel: Cancel | None = None, witness: Witness = nobody
    ) -> StreamedExperts:
        """Experts that will run at most this many forwards each, in the order of use; a context manager.

        `witness` is shown what is read of them.
        """
        return StreamedExperts(
            self.paths,
            forwards,
            self.dtype,
            self.device,
            compute=self.compute,
            adapters=self.adapters,
            cancel=cancel or Cancel(),
            witness=witness,
        )
