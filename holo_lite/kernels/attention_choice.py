"""Which kernel computes attention: the one a person names, or the fastest that is right.

`auto` takes no measurement where there is nothing to choose, as on a CPU. On a card it measures once, at a size
like the real one, and remembers what it found for as long as nothing that bears on it changes. A kernel that a
person names is tried on a few rows first, so that a fault is reported at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from holo_lite.eightbit.limits import NO_WORKSPACE, Workspace
from holo_lite.errors import SettingsError
from holo_lite.kernels.kernel import Kernel, Site
from holo_lite.kernels.registry import KERNELS, find, usable
from holo_lite.kernels.table import KernelTimesTable, key_of
from holo_lite.kernels.trial import (
    PROMPT,
    REALISTIC,
    SMALL,
    KernelTimes,
    KernelTrial,
    TrialResult,
    attempt,
    measure,
)
from holo_lite.model import equations
from holo_lite.model.compute import Attend

OWN_CHOICE = "sdpa"
T = TypeVar("T")


@dataclass(frozen=True)
class ChosenKernel:
    """A kernel, ready to be called, the reason for it in one line for a person, and the memory it uses."""

    name: str
    attend: Attend
    why: str
    workspace: Workspace = NO_WORKSPACE


@dataclass(frozen=True)
class KernelChooser:
    """Chooses for a site. folder: where measurements are remembered; rows: queries and keys to measure with."""

    site: Site
    folder: Path
    kernels: Sequence[Kernel] = KERNELS
    rows: tuple[int, int] = REALISTIC
    clock: Callable[[], float] = time.perf_counter

    def pick(self, said: str) -> ChosenKernel:
        """The kernel of that name, or for `auto` the fastest.

        Raises `SettingsError` if it cannot be used, `torch.OutOfMemoryError` if it cannot be tried.
        """
        return self._fastest() if said == "auto" else self._named(said)

    def _named(self, said: str) -> ChosenKernel:
        kernel = find(said, self.site, self.kernels)
        if self.site.capability is None:
            return ChosenKernel(said, kernel.open(), f"kernel {said}: as asked", kernel.workspace)
        found = self._on_rows(SMALL, lambda *trials: attempt(kernel, *trials))
        if isinstance(found, str):
            raise SettingsError(f"kernel '{said}': {found}; {usable(self.site, self.kernels)}")
        off = "" if kernel.exact else f"; it is approximate, with rows up to {found.error:.1%} off"
        return ChosenKernel(said, found.attend, f"kernel {said}: as asked{off}", kernel.workspace)

    def _fastest(self) -> ChosenKernel:
        unopposed = [kernel for kernel in self.kernels if kernel.refusal(self.site) is None]
        able = [kernel for kernel in unopposed if kernel.exact]
        if len(able) == 1:
            return ChosenKernel(
                able[0].name, able[0].open(), f"kernel {able[0].name}: the only one for this device"
            )
        try:
            picked = self._remembered(able) or self._measured(able)
        except torch.OutOfMemoryError:
            picked = _unmeasured("no memory was free to measure others")
        return replace(picked, why=picked.why + _only_by_name(unopposed))

    def _remembered(self, able: Sequence[Kernel]) -> ChosenKernel | None:
        """What was measured before, if its kernel still comes in and computes what it did."""
        finding = KernelTimesTable(self.folder).find(key_of(self.site, able), [kernel.name for kernel in able])
        if finding is None:
            return None
        kernel = find(finding.fastest, self.site, able)
        tried = self._on_rows(SMALL, lambda *trials: attempt(kernel, *trials))
        return None if isinstance(tried, str) else _picked(tried.attend, finding, "measured before")

    def _measured(self, able: Sequence[Kernel]) -> ChosenKernel:
        attends, finding = self._on_rows(self.rows, lambda *trials: self._compare(able, *trials))
        if not attends:
            return _unmeasured(f"no other one passed its test ({_left_out(finding)})")
        KernelTimesTable(self.folder).keep(key_of(self.site, able), finding)
        return _picked(attends[finding.fastest], finding, "measured")

    def _compare(
        self, able: Sequence[Kernel], trial: KernelTrial, other: KernelTrial
    ) -> tuple[dict[str, Attend], KernelTimes]:
        tried = {kernel.name: attempt(kernel, trial, other) for kernel in able}
        right = {name: found.attend for name, found in tried.items() if isinstance(found, TrialResult)}
        refused = {name: found for name, found in tried.items() if isinstance(found, str)}
        return right, KernelTimes(measure(right, trial, self.clock, self._wait), refused)

    def _on_rows(self, rows: tuple[int, int], do: Callable[[KernelTrial, KernelTrial], T]) -> T:
        """Do something with a trial of that size, and one of as few keys as a caption has."""
        try:
            with torch.inference_mode():
                return do(KernelTrial.of(self.site, rows), KernelTrial.of(self.site, PROMPT))
        finally:
            if self.site.device.type == "cuda":
                torch.cuda.empty_cache()

    def _wait(self) -> None:
        if self.site.device.type == "cuda":
            torch.cuda.synchronize(self.site.device)


def _unmeasured(reason: str) -> ChosenKernel:
    return ChosenKernel(OWN_CHOICE, equations.attention, f"kernel {OWN_CHOICE}: {reason}")


def _picked(attend: Attend, finding: KernelTimes, how: str) -> ChosenKernel:
    times = ", ".join(f"{name} {1000 * seconds:.2f}" for name, seconds in _by_time(finding.seconds))
    left_out = f"; left out: {_left_out(finding)}" if finding.refused else ""
    return ChosenKernel(
        finding.fastest, attend, f"kernel {finding.fastest}: the fastest, {how} in ms: {times}{left_out}"
    )


def _only_by_name(kernels: Sequence[Kernel]) -> str:
    names = [kernel.name for kernel in kernels if not kernel.exact]
    return f"; approximate, so only by name: {', '.join(names)}" if names else ""


def _by_time(seconds: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(seconds.items(), key=lambda entry: entry[1])


def _left_out(finding: KernelTimes) -> str:
    return ", ".join(f"{name} ({why})" for name, why in finding.refused.items())
