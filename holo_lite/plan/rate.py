"""How fast this machine computes, measured once and remembered.

A second's worth of the two things a step consists of: a matrix product of the feed-forward's shape, and
attention. The figures are kept by device and PyTorch version, so the next plan is instant.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from holo_lite.config import HOLOCINE_14B
from holo_lite.model.equations import attention
from holo_lite.plan.cost import Rate
from holo_lite.whole_files import write_whole

FILE = "rates.json"
SECONDS = 0.3  # of each of the two; the first round warms up and is not counted
SHAPES = {"cuda": (8192, 28080, 1), "cpu": (128, 1024, 8)}  # queries, keys, and how much narrower the model is


def device_rate(device: torch.device, name: str, folder: Path) -> Rate:
    """The rate of a device: remembered in the folder, or measured now and put there."""
    key, known = f"{name}, PyTorch {torch.__version__}", _known(folder / FILE)
    if key not in known:
        known[key] = list(measure(device))
        _remember(folder / FILE, known)
    linear, attended = known[key]
    return Rate(
        linear, attended, f"measured on {name}: {linear / 1e12:.3g} TFLOPS linear, {attended / 1e12:.3g} attention"
    )


def measure(device: torch.device) -> tuple[float, float]:
    """Operations a second in a matrix product and in attention, bf16."""
    queries, keys, narrower = SHAPES[device.type]
    d, f = HOLOCINE_14B.dim // narrower, HOLOCINE_14B.ffn_dim // narrower
    heads, head_dim = d // HOLOCINE_14B.head_dim, HOLOCINE_14B.head_dim
    x, weight = (torch.ones(rows, d, dtype=torch.bfloat16, device=device) for rows in (queries, f))
    q = x.view(queries, heads, head_dim)
    k = torch.ones(keys, heads, head_dim, dtype=torch.bfloat16, device=device)
    with torch.inference_mode():
        linear = _rate(lambda: x @ weight.T, 2 * queries * d * f, device)
        attended = _rate(lambda: attention(q, k, k), 4 * queries * keys * d, device)
    return linear, attended


def _rate(work: Callable[[], torch.Tensor], operations: int, device: torch.device) -> float:
    work()
    _wait(device)
    start, rounds = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        work()
        _wait(device)
        rounds += 1
    return rounds * operations / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _known(path: Path) -> dict[str, list[float]]:
    """What has been measured before; nothing, if the file is not there or not ours."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): [float(linear), float(attended)] for key, (linear, attended) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _remember(path: Path, known: dict[str, list[float]]) -> None:
    """Write what is known; a folder that cannot be written only means to measure again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(known, indent=1).encode())
    except OSError:
        return
