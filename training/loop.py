"""A training that can be cut off: it works in parts, and its state lies in one file.

The state is written whole or not at all, at the end of each part and every minute; the same command continues from
there. What happens depends on the seed and the number of steps alone, but for the last bits.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LOG = logging.getLogger(__name__)
LOG_EVERY = 20
SAVE_SECONDS = 60.0


@dataclass(frozen=True)
class Part:
    """Where a training lies, and when this part of it must end (seconds of `time.monotonic`)."""

    folder: Path
    until: float

    @property
    def over(self) -> bool:
        """Whether the time of this part is used up."""
        return time.monotonic() >= self.until


def train(
    name: str,
    module: nn.Module,
    optimizers: Mapping[str, torch.optim.Optimizer],
    step: Callable[[int, np.random.Generator], Mapping[str, Tensor]],
    *,
    steps: int,
    rate: Callable[[float], float],
    average: float,
    part: Part,
) -> nn.Module | None:
    """Take `steps` optimizer steps, as many as this part has time for.

    `step(index, rng)` gives named losses, of which "loss" is followed downhill; `rate(progress)` scales the
    learning rates; `average` is the decay of the moving average of the weights. → the module with averaged weights
    once all steps are taken, else None.
    """
    path = part.folder / f"{name}.pt"
    ema = {key: value.detach().clone() for key, value in module.state_dict().items()}
    done = _restore(path, module, optimizers, ema)
    base = {key: [group["lr"] for group in optimizer.param_groups] for key, optimizer in optimizers.items()}
    saved = started = time.monotonic()
    first = done
    while done < steps and not part.over:
        for key, optimizer in optimizers.items():
            for group, lr in zip(optimizer.param_groups, base[key], strict=True):
                group["lr"] = lr * rate(done / steps)
            optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(done)
        losses = step(done, np.random.default_rng((hash_name(name), done)))
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for optimizer in optimizers.values():
            optimizer.step()
        done += 1
        _follow(ema, module, min(average, done / (done + 10)))
        if done % LOG_EVERY == 0 or done == steps:
            _log(part.folder / f"{name}.jsonl", done, losses, (time.monotonic() - started) / (done - first))
        if time.monotonic() - saved > SAVE_SECONDS:
            _save(path, module, optimizers, base, ema, done)
            saved = time.monotonic()
    _save(path, module, optimizers, base, ema, done)
    if done < steps:
        return None
    module.load_state_dict(ema)
    return module


def hash_name(name: str) -> int:
    """A number for a name, the same in every process."""
    return int.from_bytes(name.encode()[:6], "big")


def _follow(ema: dict[str, Tensor], module: nn.Module, decay: float) -> None:
    for key, value in module.state_dict().items():
        ema[key].lerp_(value.detach(), 1 - decay)


def _log(path: Path, done: int, losses: Mapping[str, Tensor], seconds: float) -> None:
    line = {
        "step": done,
        **{key: round(float(value.detach()), 5) for key, value in losses.items()},
        "s": round(seconds, 3),
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    LOG.info("%s %s", path.stem, line)


def _save(
    path: Path,
    module: nn.Module,
    optimizers: Mapping[str, torch.optim.Optimizer],
    base: Mapping[str, list[float]],
    ema: Mapping[str, Tensor],
    done: int,
) -> None:
    for key, optimizer in optimizers.items():
        for group, lr in zip(optimizer.param_groups, base[key], strict=True):
            group["lr"] = lr
    state: dict[str, Any] = {
        "module": module.state_dict(),
        "optimizers": {key: optimizer.state_dict() for key, optimizer in optimizers.items()},
        "ema": dict(ema),
        "done": done,
    }
    draft = path.with_suffix(".part")
    torch.save(state, draft)
    os.replace(draft, path)


def _restore(
    path: Path, module: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], ema: dict[str, Tensor]
) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    module.load_state_dict(state["module"])
    for key, optimizer in optimizers.items():
        optimizer.load_state_dict(state["optimizers"][key])
    ema.update(state["ema"])
    return int(state["done"])
