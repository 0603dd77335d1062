"""Prompt Relay: several captions for a model that knows no windows of text (arXiv 2604.10030).

Every caption is heard in full around the middle of its shot, and less and less towards its ends and beyond. Video
tokens of one latent frame are as far from a caption's middle as each other, so a penalty is one row of as many
numbers as the text has rows, for all queries of a frame. Frames that are penalized alike pass together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from holo_lite.model.clip import common
from holo_lite.model.equations import relay_penalty
from holo_lite.story.shots import ShotLayout

EDGE = 2  # latent frames at either end of a shot in which its caption fades
SPREAD = 0.145  # latent frames: how fast
SILENT = 100.0  # a logit that loses so much adds nothing in fp32, and frames beyond are alike


@dataclass(frozen=True)
class RelayRows:
    """What is added to the logits of each row of a text, by the latent frames that hear it so. bias: (rows,)."""

    spans: tuple[tuple[range, Tensor], ...]

    def tokens(self, layout: ShotLayout, here: range) -> Iterator[tuple[range, Tensor]]:
        """Spans of the tokens `here`, with their bias."""
        for frames, bias in self.spans:
            span = range(frames.start * layout.frame_tokens, frames.stop * layout.frame_tokens)
            if inside := common(span, here):
                yield inside, bias


def relay_rows(captions: Sequence[range], layout: ShotLayout, text: Tensor) -> RelayRows:
    """The bias of every latent frame of a clip, whose shots have these rows of a text (rows, d), on its device."""
    assert len(captions) == layout.shots, "every shot has a caption"
    bias = text.new_zeros(layout.latent_frames, len(text), dtype=torch.float32)
    frames = torch.arange(layout.latent_frames, dtype=torch.float32, device=text.device)[:, None]
    for shot, caption in enumerate(captions):
        span = layout.frame_span(shot)
        distance = (frames - (span.start + span.stop - 1) / 2).abs()
        free = distance.new_tensor(max(0.0, len(span) / 2 - EDGE))
        bias[:, caption.start : caption.stop] = -relay_penalty(distance, free, SPREAD).clamp(max=SILENT)
    edges = [0, *(f for f in range(1, len(bias)) if not torch.equal(bias[f], bias[f - 1])), len(bias)]
    return RelayRows(tuple((range(a, b), bias[a]) for a, b in pairwise(edges)))
