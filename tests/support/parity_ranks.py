"""The reference's forward and run once more, by several ranks: threads of this process over the real transport."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from file_experts import FileExperts
from ranks_here import CPU, at_once, meetings
from torch import Tensor

from holo_lite.model.clip import Clip
from holo_lite.model.compute import Compute
from holo_lite.model.layers import TextRows
from holo_lite.model.load import load_expert
from holo_lite.model.parts import Part
from holo_lite.ranks.meeting import Meeting
from holo_lite.sampling.sampler import Guidance, initial_noise, sample
from holo_lite.sampling.schedule import Schedule

FP32 = torch.float32


def even_parts(clip: Clip, ranks: int, branches: tuple[int, ...]) -> list[Part]:
    """Spans of as many tokens each, whatever shots they go through."""
    tokens = clip.layout.tokens
    bounds = [tokens * rank // ranks for rank in range(ranks + 1)]
    return [Part(branches, bounds[rank], bounds[rank + 1], rank, ranks) for rank in range(ranks)]


def forward(
    expert: Path,
    clip: Clip,
    ranks: int,
    latents: Tensor,
    timestep: float,
    context: Tensor,
    windows: tuple[Tensor, ...] | None,
) -> Tensor:
    """The first rank's velocity, (16, F, h, w)."""
    parts = even_parts(clip, ranks, (0,))

    def work(meeting: Meeting) -> Tensor:
        share = parts[meeting.place.rank].share
        model = load_expert(expert, dtype=FP32, device=CPU, compute=Compute(exchange=meeting))
        with torch.inference_mode():
            text = TextRows(model.embed_text(context), windows)
            found = model(latents, torch.tensor(timestep), [text], replace(clip, share=share))
            return meeting.velocities(found, 1, latents)[0]

    return _all(parts, clip, work)[0]


def steps(
    high: Path, low: Path, clip: Clip, ranks: int, guidance: Guidance, schedule: Schedule, seed: int
) -> list[Tensor]:
    """The first rank's latents after each step."""
    parts = even_parts(clip, ranks, (0, 1))

    def work(meeting: Meeting) -> list[Tensor]:
        experts = FileExperts(high, low, FP32, CPU, Compute(exchange=meeting))
        here = replace(clip, share=parts[meeting.place.rank].share)
        run = sample(experts, initial_noise(here, seed), guidance, schedule, here, meeting=meeting)
        return [progress.latents for progress in run]

    return _all(parts, clip, work)[0]


def _all(parts: Sequence[Part], clip: Clip, work):
    works = [partial(lambda met: work(met()), met) for met in meetings(parts, clip)]
    return at_once(works)
