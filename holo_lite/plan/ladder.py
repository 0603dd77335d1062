"""What to give up when memory runs out in spite of the plan, one rung at a time.

A plan is arithmetic, and a card holds surprises: another program, a fragmented allocator, an undocumented
workspace. Then the step is repeated with a smaller plan. The rungs are ordered by what they cost: a shot's inputs
made twice, smaller chunks, fewer resident blocks, one guidance branch after the other; for decoding, smaller tiles.
None of them changes the mathematics of denoising. Only the last one does, and towards the exact result: it gives up
the step cache. Where pinned memory is taken from the card, the blocks that are kept there come next after a shot's
inputs: giving them up frees the card, and costs only reading.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from holo_lite.film.tiling import Tile
from holo_lite.model.clip import Chunks
from holo_lite.plan.plan import Plan
from holo_lite.streaming.lane import PinError

Shortage = Literal["device", "pinned"]
SMALLEST = Chunks(256, 128)
NO_MEMORY = (  # what the driver, its libraries and the system's allocators say
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",  # cuDNN 9's name for it
    "unable to find an engine to execute this computation",  # no plan of cuDNN's got its workspace
    "can't allocate memory",
    "not enough memory",
)
LEAST_TILE = 8  # latents a side; below, tiles are nothing but overlap


def smaller_plan(plan: Plan, *, pinned_first: bool = False) -> tuple[Plan, str] | None:
    """The next rung for denoising and what it changes, for a person; None at the lowest.

    pinned_first: what is pinned counts as the card's, so the blocks that are kept there go first.
    """
    if plan.chunks.holding:
        return replace(plan, chunks=replace(plan.chunks, holding=False)), "a shot's inputs are not held any more"
    if pinned_first and plan.pinned_cache_blocks:
        return replace(plan, pinned_cache_blocks=0), "no blocks kept in pinned memory, which is the card's here"
    chunks = plan.chunks
    if chunks != SMALLEST and (
        chunks.attention > SMALLEST.attention or chunks.feed_forward > SMALLEST.feed_forward
    ):
        halved = Chunks(
            max(chunks.attention // 2, min(chunks.attention, SMALLEST.attention)),
            max(chunks.feed_forward // 2, min(chunks.feed_forward, SMALLEST.feed_forward)),
        )
        return replace(plan, chunks=halved), f"chunks of {halved.attention} and {halved.feed_forward} tokens"
    if plan.resident:
        kept = plan.resident // 2
        return replace(plan, resident=kept, resident_other=0), f"{kept} resident blocks"
    if plan.joint:
        return replace(plan, joint=False), "one guidance branch after the other"
    if plan.step_cache:
        return replace(plan, step_cache=False), "no step cache: from here on every step is computed"
    return None


def with_less_pinned(plan: Plan) -> tuple[Plan, str] | None:
    """The next rung when the host pins no more memory: half the cache, none of it, an unpinned ring; then None."""
    if plan.pinned_cache_blocks:
        kept = plan.pinned_cache_blocks // 2
        return replace(plan, pinned_cache_blocks=kept), f"{kept} blocks of each expert kept in pinned memory"
    return unpinned(plan) if plan.pinned_ring else None


def unpinned(plan: Plan) -> tuple[Plan, str]:
    """A plan without pinned memory: blocks come through the driver's own buffer, and copies hold each other up."""
    return replace(plan, pinned_cache_blocks=0, pinned_ring=False), "no pinned memory"


def smaller_tile(tile: Tile | None, latents: tuple[int, int]) -> Tile | None:
    """The next smaller tile for a frame of `rows` and `columns` of latents; None if there is no smaller one."""
    rows, columns = tile or latents
    smaller = (max(LEAST_TILE, -(-rows // 2)), max(LEAST_TILE, -(-columns // 2)))
    return smaller if smaller != (rows, columns) and min(smaller) >= LEAST_TILE else None


def shortage_of(error: BaseException) -> Shortage | None:
    """What an error says there is too little of; None if it speaks of something else."""
    if isinstance(error, PinError):
        return "pinned"
    return "device" if is_out_of_memory(error) else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or a library's workspace on it, got no memory."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(words in text for words in NO_MEMORY)
