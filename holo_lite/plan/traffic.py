"""What ranks send each other in a block, in bytes.

With b branches on a rank, width d and e bytes a number, a token's keys and values are 2 · b · d · e bytes. All
ranks of a branch receive the shared rows that others compute, and of a divided shot, whoever has some of it, the
rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holo_lite.model.clip import Clip, common
from holo_lite.model.parts import Part
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.sizes import ModelSizes


def sent_bytes(sizes: ModelSizes, request: ClipRequest, parts: Sequence[Part]) -> int:
    """All ranks together, each row counted once: 2·b·d·e · (shared rows + own rows of every divided shot)."""
    clip, total = request.clip(), 0
    for branches in dict.fromkeys(part.branches for part in parts):
        peers = [part for part in parts if part.branches == branches]
        if len(peers) > 1:
            rows = clip.shared_tokens + sum(len(clip.own_span(shot)) for shot in _divided(clip, peers))
            total += len(branches) * rows * _row(sizes)
    return total


def received_bytes(sizes: ModelSizes, request: ClipRequest, parts: Sequence[Part]) -> int:
    """The rank that receives the most."""
    return max(_received(request.clip(), part, parts) for part in parts) * _row(sizes)


def _received(clip: Clip, part: Part, parts: Sequence[Part]) -> int:
    """Rows of all branches that a rank receives."""
    peers = [each for each in parts if each.branches == part.branches]
    if len(peers) < 2:
        return 0
    rows = sum(len(span) - len(common(span, part.tokens)) for span in clip.shared_spans)
    for shot in _divided(clip, peers):
        if common(clip.layout.token_span(shot), part.tokens):
            own = clip.own_span(shot)
            rows += len(own) - len(common(own, part.tokens))
    return len(part.branches) * rows


def _divided(clip: Clip, peers: Sequence[Part]) -> Iterator[int]:
    """Shots of which several ranks compute some."""
    for shot in range(clip.layout.shots):
        span = clip.layout.token_span(shot)
        if sum(bool(common(span, part.tokens)) for part in peers) > 1:
            yield shot


def _row(sizes: ModelSizes) -> int:
    return 2 * sizes.config.dim * sizes.bytes_per_number
