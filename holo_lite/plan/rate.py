"""How fast this machine computes, measured once and remembered.

A second's worth of the two things a step consists of: a matrix product of the feed-forward's shape, in 8 bits, too,
where a run multiplies so, and attention. The figures are kept by device and PyTorch version, so the next plan is
instant.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
from msgspec import Meta

from holo_lite.config import HOLOCINE_14B
from holo_lite.eightbit.coding import quantize
from holo_lite.eightbit.limits import EightBits, LinearMode
from holo_lite.eightbit.product import multiply
from holo_lite.eightbit.rows import FORMATS
from holo_lite.model.equations import attention
from holo_lite.plan.cost import Rate
from holo_lite.system.caches import RATES, table
from holo_lite.system.json_table import JsonTable

# Operations a second; no machine is as slow or as fast as the bounds.
Numbers = Annotated[tuple[Annotated[float, Meta(ge=1e3, le=1e20)], ...], Meta(min_length=1, max_length=2)]
SECONDS = 0.3  # of each of the two; the first round warms up and is not counted
SHAPES = {"cuda": (8192, 28080, 1), "cpu": (128, 1024, 8)}  # queries, keys, and how much narrower the model is


def device_rate(device: torch.device, name: str, folder: Path, linear: LinearMode = "plain") -> Rate:
    """The rate of a device: remembered in the folder, or measured now and put there.

    With products in 8 bits, those are measured, too.
    """
    known, key = table(RATES, folder, Numbers), f"{name}, PyTorch {torch.__version__}"
    plain, attended = _recall(known, key, 2, lambda: measure(device))
    basis = f"measured on {name}: {plain / 1e12:.3g} TFLOPS linear, {attended / 1e12:.3g} attention"
    if linear == "plain":
        return Rate(plain, attended, basis, measured=True)
    (coded,) = _recall(known, f"{key}, {linear}", 1, lambda: (measure_eight_bit(device, linear),))
    return Rate(plain, attended, f"{basis}, {coded / 1e12:.3g} in {linear}", coded, measured=True)


def measure(device: torch.device) -> tuple[float, float]:
    """Operations a second in a matrix product and in attention, bf16."""
    queries, keys, narrower = SHAPES[device.type]
    d, f = HOLOCINE_14B.dim // narrower, HOLOCINE_14B.ffn_dim // narrower
    heads, head_dim = d // HOLOCINE_14B.head_dim, HOLOCINE_14B.head_dim
    x, weight = _random((queries, d), device), _random((f, d), device)
    q, k = x.view(queries, heads, head_dim), _random((keys, heads, head_dim), device)
    with torch.inference_mode():
        linear = _rate(lambda: x @ weight.T, 2 * queries * d * f, device)
        attended = _rate(lambda: attention(q, k, k), 4 * queries * keys * d, device)
    return linear, attended


def measure_eight_bit(device: torch.device, linear: EightBits) -> float:
    """Operations a second of the same matrix product in 8 bits, the input quantized each time."""
    rows, _, narrower = SHAPES[device.type]
    d, f, form = HOLOCINE_14B.dim // narrower, HOLOCINE_14B.ffn_dim // narrower, FORMATS[linear]
    with torch.inference_mode():
        x, coded = _random((rows, d), device), quantize(_random((f, d), device), form)
        return _rate(lambda: multiply(quantize(x, form), coded, None), 2 * rows * d * f, device)


def _random(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Random numbers: a card that multiplies equal ones draws less power, and is faster than it will be."""
    return torch.randn(shape, dtype=torch.bfloat16, device=device, generator=torch.Generator(device).manual_seed(0))


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


def _recall(
    table: JsonTable[tuple[float, ...]], key: str, count: int, measured: Callable[[], tuple[float, ...]]
) -> tuple[float, ...]:
    """So many numbers: remembered, or measured now."""
    known = table.get(key)
    if known is None or len(known) != count:
        known = measured()
        table.keep(key, known)
    return known
