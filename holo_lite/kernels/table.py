"""Measurements remembered: a small JSON table in the cache folder, an entry for each kind of card and software."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from holo_lite.kernels.kernel import NAMES, Kernel, Site
from holo_lite.kernels.trial import KernelTimes
from holo_lite.system.whole_files import write_whole

FILE_NAME = "kernels.json"
logger = logging.getLogger(__name__)


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
        """The measurement of that key, of kernels of these names; None if there is none, or nothing readable."""
        found = self._read().get(key, {})
        try:
            finding = KernelTimes(dict(found["seconds"]), dict(found["refused"]))
            sound = bool(finding.seconds) and all(float(seconds) > 0 for seconds in finding.seconds.values())
        except (KeyError, TypeError, ValueError):
            return None
        return finding if sound and {*finding.seconds} <= {*names} else None

    def keep(self, key: str, finding: KernelTimes) -> None:
        """Remember a measurement. A folder that cannot be written is a warning: the next run measures again."""
        record = {"seconds": finding.seconds, "refused": finding.refused}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / FILE_NAME, json.dumps({**self._read(), key: record}, indent=1).encode())
        except OSError as error:
            logger.warning("the kernels' times cannot be cached: %s", str(error))

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / FILE_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _version(kernel: Kernel) -> str:
    return (kernel.package.version or "") if kernel.package else ""
