"""How long each shot lasts: what a language model proposes, fitted to the length that was asked for.

Models are poor at sums, so their seconds only say how the shots compare.
"""

from __future__ import annotations

from collections.abc import Sequence

from holo_lite.preflight.rules import MOVES
from holo_lite.story.shots import FRAMES_PER_LATENT, latent_frames, round_frames


def fewest_frames(shots: int) -> int:
    """The shortest length, of the form 4t+1, in which something can move in every shot."""
    return FRAMES_PER_LATENT * (MOVES * shots - 1) + 1


def shot_frames(frames: int, weights: Sequence[float]) -> tuple[int, ...]:
    """Divide a length in frames among shots by their weights: every cut is a 4t+1, every shot can move.

    frames: at least `fewest_frames`; weights: above zero.
    """
    latents = latent_frames(round_frames(frames))
    assert latents >= MOVES * len(weights), f"{frames} frames are too few for {len(weights)} shots"
    first, *others = _shares(latents, weights)
    return FRAMES_PER_LATENT * (first - 1) + 1, *(FRAMES_PER_LATENT * share for share in others)


def _shares(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to the weights, with that sum, each at least `MOVES`; largest rests round up."""
    ideal = [max(0.0, weight / sum(weights) * total - MOVES) for weight in weights]
    spare = total - MOVES * len(weights)
    scale = spare / sum(ideal) if sum(ideal) else 0.0
    shares = [int(each * scale) for each in ideal]
    rests = sorted(range(len(weights)), key=lambda place: shares[place] - ideal[place] * scale)
    for place in rests[: spare - sum(shares)]:
        shares[place] += 1
    return [share + MOVES for share in shares]
