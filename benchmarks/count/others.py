"""One block of the released model in other ways, counted as ours is: the published reference's, and diffusers'.

The reference's way is `benchmarks.speed.reference`, written from its description. diffusers is its own block, in
bf16 as `from_pretrained` leaves it, whose attention is dense. Both compute guidance branches one after the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.count.block import BF16, BRANCHES, CONFIG, flash, make_block
from benchmarks.count.tally import CARD, Tally, on_a_card, put_on_card
from benchmarks.speed import diffusers, reference
from holo_lite.config import PATCH, TEXT_ROWS
from holo_lite.model.clip import Clip


def count_reference(clip: Clip) -> Tally:
    """One block of both branches, by PyTorch's flash kernel where there is no mask of the text."""
    layout = clip.layout
    with on_a_card() as tally:
        with tally.quiet():
            block, x, text, mod = make_block("bf16"), _empty(layout.tokens), _empty(TEXT_ROWS), _empty(6)
            turns = reference.rotations(layout, CONFIG.head_dim, CARD)
            mask = torch.empty(1, 1, layout.tokens, TEXT_ROWS, dtype=torch.bool, device=CARD)
        for each in (mask, None):
            reference._block(block, x, text, mod, layout, turns, each, flash)
    return tally


def count_diffusers(clip: Clip) -> Tally:
    """One block of both branches."""
    layout = clip.layout
    with on_a_card() as tally:
        with tally.quiet():
            model = diffusers.skeleton(CONFIG)
            block = model.blocks[0].eval()
            put_on_card(block, lambda name: diffusers.kept_dtype(name, BF16))
            size = layout.latent_frames, PATCH * layout.rows, PATCH * layout.columns
            turns = model.rope(torch.empty(1, CONFIG.in_dim, *size, device=CARD))
            x, text = _empty(layout.tokens)[None], _empty(TEXT_ROWS)[None]
            mod = torch.empty(1, 6, CONFIG.dim, device=CARD, dtype=BF16)
        for _ in range(BRANCHES):
            block(x, text, mod, turns)
    return tally


def _empty(rows: int) -> Tensor:
    return torch.empty(rows, CONFIG.dim, dtype=BF16, device=CARD)
