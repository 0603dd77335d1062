"""Reading prompts under a plan: each is encoded once, and without pinned memory where the system has none.

What was encoded is cached, and a run whose prompts are known never opens the text encoder.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from holo_lite.cancel import Cancel
from holo_lite.errors import RoomError
from holo_lite.events import Event, PhaseStarted
from holo_lite.plan.ladder import Shortage, unpinned
from holo_lite.plan.plan import Plan
from holo_lite.render.retry import KeepPlan, OomRetry
from holo_lite.sampling.sampler import Context
from holo_lite.system.cache_folder import cache_folder
from holo_lite.text.cache import PromptCache, cache_key, encode_prompts, encoder_identity
from holo_lite.text.encoder import TextEncoder, pad_rows
from holo_lite.text.windows import Prompt
from holo_lite.weights.audit import Audit


@dataclass(frozen=True)
class PromptReader:
    """The text encoder's file and how it is computed. `keep` is told of every smaller plan."""

    encoder: Path
    dtype: torch.dtype
    device: torch.device
    audit: Audit = field(default_factory=Audit)
    keep: KeepPlan = lambda _: None
    cancel: Cancel = field(default_factory=Cancel)

    def contexts(self, prompts: Sequence[Prompt], plan: Plan) -> Generator[Event, None, tuple[list[Context], Plan]]:
        """What the experts read of each prompt, and the plan that did it.

        Raises `RoomError` when the device has no memory left: nothing is smaller; and `CheckpointError` for weights
        that are not what was written; and `Cancelled`, before the encoder's next block.
        """
        rows, plan = yield from self.rows(prompts, plan)
        return [self._context(*pair) for pair in zip(rows, prompts, strict=True)], plan

    def knows(self, prompts: Sequence[Prompt]) -> bool:
        """Whether all of them are cached, so that the encoder is not opened."""
        identity, cache = encoder_identity(self.encoder), PromptCache(cache_folder() / "prompts")
        keys = [cache_key(prompt, identity, self.dtype) for prompt in prompts]
        return all(cache.get(key) is not None for key in keys)

    def rows(self, prompts: Sequence[Prompt], plan: Plan) -> Generator[Event, None, tuple[list[Tensor], Plan]]:
        """Encode prompts, each to (n, d) on the CPU; from here on they are cached. Raises as `contexts`."""
        retry = OomRetry(self.device, _without_pinned, self.keep)
        while True:
            with retry:
                yield PhaseStarted("text", 0)
                return self._encode(prompts, plan), plan
            yield (down := retry.down(plan, "text"))
            plan = down.plan

    def _encode(self, prompts: Sequence[Prompt], plan: Plan) -> list[Tensor]:
        return encode_prompts(
            prompts,
            partial(self._open, plan),
            PromptCache(cache_folder() / "prompts"),
            identity=encoder_identity(self.encoder),
            dtype=self.dtype,
            settle=self._settle,
        )

    def _open(self, plan: Plan) -> TextEncoder:
        self.cancel.check()
        self.audit.streamed(self.encoder, rest=False)
        return TextEncoder.open(
            self.encoder,
            dtype=self.dtype,
            device=self.device,
            pinned=plan.pinned_ring,
            cancel=self.cancel,
            witness=self.audit.saw,
        )

    def _settle(self) -> None:
        """Wait until the encoder's files are hashed, which takes longest of all: cancelling ends that, too."""
        with self.cancel.calling(self.audit.give_up):
            self.audit.settle(self.encoder)
        self.cancel.check()

    def _context(self, rows: Tensor, prompt: Prompt) -> Context:
        """What the experts read of a prompt, on the device, from its encoded rows (n, d)."""
        padded = pad_rows(rows).to(self.device, self.dtype)
        if prompt.relay is not None:
            return Context(padded, relay=tuple(range(*bounds) for bounds in prompt.relay))
        if prompt.windows is None:
            return Context(padded)
        seen = (prompt.windows.rows(shot) for shot in range(prompt.shots))
        return Context(padded, tuple(torch.tensor(rows, device=self.device) for rows in seen))


def _without_pinned(plan: Plan, shortage: Shortage) -> tuple[Plan, str]:
    """The one rung there is while prompts are read, which take two small buffers on the host."""
    if shortage != "pinned":
        raise RoomError("memory ran out while reading the prompt; close other programs and try again")
    return unpinned(plan)
