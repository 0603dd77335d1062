"""Reading prompts under a plan: each is encoded once, and without pinned memory where the system has none.

What was encoded is cached, and a run whose prompts are known never opens the text encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.errors import RoomError
from holo_lite.events import Event, PhaseStarted
from holo_lite.plan.fit import Plan
from holo_lite.plan.ladder import Shortage, unpinned
from holo_lite.render.retry import OomRetry
from holo_lite.sampling.sampler import Context
from holo_lite.system.cache_folder import cache_folder
from holo_lite.text.cache import PromptCache, encode_prompts, encoder_identity
from holo_lite.text.encoder import TextEncoder, pad_rows
from holo_lite.text.windows import Prompt
from holo_lite.weights.audit import Audit


@dataclass(frozen=True)
class Encoding:
    """What reading needs in addition to prompts."""

    encoder: Path
    dtype: torch.dtype
    device: torch.device
    keep: Callable[[Plan], None] = lambda _: None  # told of every smaller plan
    audit: Audit = field(default_factory=Audit)

    def run(self, prompts: Sequence[Prompt], plan: Plan) -> Generator[Event, None, tuple[list[Context], Plan]]:
        """Give what the experts read of each prompt, and the plan that did it.

        Raises `RoomError` when the device has no memory left: nothing is smaller; and `CheckpointError` for weights
        that are not what was written.
        """
        rows, plan = yield from self.rows(prompts, plan)
        return [self.context(*pair) for pair in zip(rows, prompts, strict=True)], plan

    def rows(self, prompts: Sequence[Prompt], plan: Plan) -> Generator[Event, None, tuple[list[Tensor], Plan]]:
        """Encode prompts, each to (n, d) on the CPU; from here on they are cached. Raises as `run`."""
        retry = OomRetry(self.device, _without_pinned, self.keep)
        return (yield from retry.run(partial(self._encode, prompts), plan, lambda: "text"))

    def _encode(self, prompts: Sequence[Prompt], plan: Plan) -> Generator[Event, None, list[Tensor]]:
        yield PhaseStarted("text", 0)
        return encode_prompts(
            prompts,
            partial(self._open, plan),
            PromptCache(cache_folder() / "prompts"),
            identity=encoder_identity(self.encoder),
            dtype=self.dtype,
            settle=partial(self.audit.settle, self.encoder),
        )

    def _open(self, plan: Plan) -> TextEncoder:
        self.audit.begin(self.encoder)
        return TextEncoder.open(self.encoder, dtype=self.dtype, device=self.device, pinned=plan.pinned_ring)

    def context(self, rows: Tensor, prompt: Prompt) -> Context:
        """What the experts read of a prompt, on the device, from its encoded rows (n, d)."""
        padded = pad_rows(rows).to(self.device, self.dtype)
        if prompt.windows is None:
            return Context(padded)
        seen = (prompt.windows.rows(shot) for shot in range(prompt.shots))
        return Context(padded, tuple(torch.tensor(rows, device=self.device) for rows in seen))


def _without_pinned(plan: Plan, shortage: Shortage) -> tuple[Plan, str]:
    """The one rung there is while prompts are read, which take two small buffers on the host."""
    if shortage != "pinned":
        raise RoomError("memory ran out while reading the prompt; close other programs and try again")
    return unpinned(plan)
