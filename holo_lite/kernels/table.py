"""Measurements remembered: a small JSON table in the cache folder, an entry for each kind of card and software."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from holo_lite.kernels.kernel import NAMES, Kernel, Site
from holo_lite.kernels.trial import KernelTimes
from holo_lite.system.caches import KERNELS, table
from holo_lite.system.json_table import JsonTable


def key_of(site: Site, kernels: Iterable[Kernel]) -> str:
    """All that a measurement depends on: the card, the software, the kernels that took part, numbers and heads."""
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    facts = [site.card, str(site.capability), f"torch {torch.__version__}", f"cudnn {cudnn}"]
    packages = [f"{kernel.name} {_version(kernel)}".rstrip() for kernel in kernels]
    return ", ".join([*facts, *packages, f"{site.heads} heads of {site.head_dim} {NAMES[site.dtype]}"])


@dataclass(frozen=True)
class KernelTimesTable:
    """The measurements in a folder, which need not exist."""

    folder: Path

    def find(self, key: str, names: Sequence[str]) -> KernelTimes | None:
        """The measurement of that key, of kernels of these names; None if there is none."""
        found = self._table.get(key)
        return found if found and found.seconds and {*found.seconds} <= {*names} else None

    def keep(self, key: str, finding: KernelTimes) -> None:
        """Remember a measurement. A folder that cannot be written is a warning: the next run measures again."""
        self._table.keep(key, finding)

    @property
    def _table(self) -> JsonTable[KernelTimes]:
        return table(KERNELS, self.folder, KernelTimes)


def _version(kernel: Kernel) -> str:
    return (kernel.package.version or "") if kernel.package else ""
