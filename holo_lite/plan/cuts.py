"""Where a clip is cut for several ranks, each of which computes one span of tokens.

All cuts at once are searched for the least time of the slowest rank. Then every cut may move to the beginning of a
shot before or behind it, and those are taken that go through the fewest shots, where the slowest rank takes at most
a tenth longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product

from holo_lite.model.clip import common
from holo_lite.story.shots import ShotLayout

SLACK = 1.1  # how much longer the slowest rank may take for shots to stay whole
MOST_CUTS = 6  # with more, every cut goes to the nearest shot instead of all being tried with each other
ROUNDS = 60  # of halving: finer than a token of the longest clip


def balanced_cuts(layout: ShotLayout, paces: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """Tokens at which each rank but the first begins; paces: seconds a token, by rank and shot.

    At shots' ends where that is within `SLACK` of the best there is, with as few cuts through shots as possible.
    """
    exact = _even_cuts(layout, paces)
    best = _slowest(layout, paces, exact)
    starts = [layout.token_span(shot).start for shot in range(layout.shots)]
    choices = [
        {cut, *_around(cut, starts)}
        if len(exact) <= MOST_CUTS
        else {min((*starts, cut), key=lambda at: abs(at - cut))}
        for cut in exact
    ]
    tried = [cuts for cuts in product(*choices) if _in_order(cuts, layout.tokens)]
    good = [cuts for cuts in tried if _slowest(layout, paces, cuts) <= SLACK * best]

    def merit(cuts: tuple[int, ...]) -> tuple[int, float]:
        return sum(cut not in starts for cut in cuts), _slowest(layout, paces, cuts)

    return min(good, key=merit, default=exact)


def _around(cut: int, starts: Sequence[int]) -> Iterator[int]:
    """The shots' beginnings before and behind a cut."""
    yield from [max((start for start in starts if start <= cut), default=cut)]
    yield from [min((start for start in starts if start >= cut), default=cut)]


def _in_order(cuts: Sequence[int], tokens: int) -> bool:
    return all(a < b for a, b in pairwise((0, *cuts, tokens)))


def _even_cuts(layout: ShotLayout, paces: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """Cuts at which all ranks take the same time, to a token, each with a token at least."""
    low, high = 0.0, max(sum(_times(layout, pace)) for pace in paces)
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (low, middle) if _reaches(layout, paces, middle)[-1] >= layout.tokens else (middle, high)
    count = len(paces)
    reached = _reaches(layout, paces, high)[:-1]
    cuts: list[int] = []
    for number, cut in enumerate(reached, 1):
        least = cuts[-1] + 1 if cuts else 1
        cuts.append(min(max(cut, least), layout.tokens - (count - number)))
    return tuple(cuts)


def _times(layout: ShotLayout, pace: Sequence[float]) -> list[float]:
    return [len(layout.token_span(shot)) * pace[shot] for shot in range(layout.shots)]


def _reaches(layout: ShotLayout, paces: Sequence[Sequence[float]], seconds: float) -> list[int]:
    """The token up to which each rank comes, one after the other, in so many seconds each."""
    reached, token = [], 0
    for pace in paces:
        left = seconds
        for shot in range(layout.shots):
            span = common(layout.token_span(shot), range(token, layout.tokens))
            done = min(len(span), int(left / pace[shot] + 0.5))
            token, left = token + done, left - done * pace[shot]
            if done < len(span):
                break
        reached.append(token)
    return reached


def _slowest(layout: ShotLayout, paces: Sequence[Sequence[float]], cuts: Sequence[int]) -> float:
    """Seconds of the slowest rank."""
    spans = [range(*span) for span in pairwise((0, *cuts, layout.tokens))]
    return max(
        sum(len(common(layout.token_span(shot), span)) * pace[shot] for shot in range(layout.shots))
        for span, pace in zip(spans, paces, strict=True)
    )
