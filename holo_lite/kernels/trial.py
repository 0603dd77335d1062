"""A trial of attention kernels: the same rows for each, its worst row compared with SDPA in fp32, and its time.

The rows are random: queries and keys of variance 1, as their norms leave them, so that a query sees thousands of
keys. What rounding does to a row then does not depend on how many there are.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor

from holo_lite.errors import with_kind
from holo_lite.kernels.kernel import Kernel, Site
from holo_lite.model.compute import Attend

LATENT_FRAME = 1560  # tokens at 832×480
REALISTIC = (
    3 * LATENT_FRAME,
    8 * LATENT_FRAME,
)  # queries of a chunk, keys of a shot; neither fills a kernel's last tile
SMALL = (200, 328)
PROMPT = (200, 37)  # keys of a shot's caption
ROUNDS = 5
APPROXIMATE = 0.2  # of a row's length; 8 bits leave some 0.05, a broken kernel 1
Seconds = Annotated[float, Meta(gt=0, lt=1e6)]


@dataclass(frozen=True)
class KernelTrial:
    """Queries (n, H, D), keys and values (m, H, D), and what attention makes of them, fp32."""

    q: Tensor
    k: Tensor
    v: Tensor
    expected: Tensor

    @classmethod
    def of(cls, site: Site, rows: tuple[int, int]) -> KernelTrial:
        """The same numbers every time on one kind of device; the process's own random numbers are left alone."""
        generator = torch.Generator(site.device).manual_seed(0)
        lengths = (rows[0], rows[1], rows[1])
        q, k, v = (
            torch.randn(n, site.heads, site.head_dim, generator=generator, device=site.device).to(site.dtype)
            for n in lengths
        )
        return cls(q, k, v, _in_fp32(q, k, v))

    def error(self, attend: Attend) -> float:
        """The worst row's distance from what it should be, as a part of its length. NaN of a row that is NaN.

        Raises what the kernel raises, and `ValueError` if it writes into its inputs: shots share rows of keys.
        """
        before = self._sums()
        out = attend(self.q, self.k, self.v)
        if out.shape != self.expected.shape:
            raise ValueError(f"its result has the shape {tuple(out.shape)}, not {tuple(self.expected.shape)}")
        if self._sums() != before:
            raise ValueError("it changes its input")
        off = torch.linalg.vector_norm(out.float() - self.expected, dim=-1)
        return float((off / torch.linalg.vector_norm(self.expected, dim=-1)).max())

    def _sums(self) -> tuple[float, ...]:
        return tuple(float(rows.sum(dtype=torch.float64)) for rows in (self.q, self.k, self.v))


@dataclass(frozen=True)
class TrialResult:
    """A kernel that came in and computed what it should, and its worst row's error."""

    attend: Attend
    error: float


@dataclass(frozen=True)
class KernelTimes:
    """What a measurement found. seconds: of one call of each that is right; refused: why the others are not."""

    seconds: Mapping[str, Seconds]
    refused: Mapping[str, str]

    @property
    def fastest(self) -> str:
        """The name of the fastest, of two equally fast ones the first."""
        return min(self.seconds, key=lambda name: self.seconds[name])


def bound(kernel: Kernel, dtype: torch.dtype) -> float:
    """How far off a row may be. Sound kernels stay below one unit in the last place, thousands of sums in fp32."""
    return max(2 * torch.finfo(dtype).eps, 1e-5) if kernel.exact else APPROXIMATE


def attempt(kernel: Kernel, *trials: KernelTrial) -> TrialResult | str:
    """Bring a kernel in and try it; what is wrong with it, in a few words, if something is.

    Raises `torch.OutOfMemoryError`, which says nothing about the kernel.
    """
    allowed = bound(kernel, trials[0].q.dtype)
    try:
        attend = kernel.open()
        errors = [trial.error(attend) for trial in trials]
    except torch.OutOfMemoryError:
        raise
    except Exception as raised:  # noqa: BLE001 - a foreign package's, whose errors have no common root
        return with_kind(raised)
    for error in errors:
        if not error <= allowed:  # true of NaN, too
            off = f"a row is {error:.2g} of its length off, rounding explains {allowed:.2g}"
            return f"it gives wrong results here: {off}"
    return TrialResult(attend, max(errors))


def measure(
    kernels: Mapping[str, Attend], trial: KernelTrial, clock: Callable[[], float], wait: Callable[[], None]
) -> dict[str, float]:
    """The median seconds of a call of each. They take turns, so that a card that warms up is the same to all."""
    rounds: dict[str, list[float]] = {name: [] for name in kernels}
    for _ in range(ROUNDS):
        for name, attend in kernels.items():
            wait()
            start = clock()
            attend(trial.q, trial.k, trial.v)
            wait()
            rounds[name].append(clock() - start)
    return {name: statistics.median(seconds) for name, seconds in rounds.items()}


def _in_fp32(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """SDPA in fp32 a head at a time: without a fused kernel it takes all of a head's scores at once."""
    out = torch.empty_like(q, dtype=torch.float32)
    for head in range(q.shape[1]):
        one, keys, values = (rows[:, head].float().unsqueeze(0) for rows in (q, k, v))
        out[:, head] = F.scaled_dot_product_attention(one, keys, values).squeeze(0)
    return out
