"""How a clip is laid over several cards: who computes what, chosen by what takes the least time.

Two ways, and both at once. The two **guidance branches** apart: half the ranks compute one, half the other, and
nothing travels in a block. **Shots** apart: each rank computes one span of tokens, the keys and values of all
shots' first latent frames go to all in every block, and those of a shot that is divided to all who have some of it.
Spans are whole shots where the slowest rank then takes at most a tenth longer than it must; else a cut goes through
a shot.

A rank's time is its operations at its own rate, so unequal cards get unequal spans. What travels is counted at an
assumed rate, which is low: cards without a way to each other send through main memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from holo_lite.config import DiTConfig
from holo_lite.errors import FitError
from holo_lite.model.clip import common
from holo_lite.model.parts import Part
from holo_lite.plan.cost import Operations, Rate, forward_operations
from holo_lite.plan.cuts import balanced_cuts
from holo_lite.plan.fit import make_plan
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.plan import Plan
from holo_lite.plan.rank_plans import Spread, Station
from holo_lite.plan.search import Problem
from holo_lite.plan.sizes import ModelSizes
from holo_lite.plan.traffic import received_bytes, sent_bytes
from holo_lite.system.units import memory_text


def choose_spread(
    stations: Sequence[Station], sizes: ModelSizes, request: ClipRequest, *, throughout: bool
) -> Spread:
    """The way that takes the least time among those that fit; `throughout`: every step has both branches.

    Raises `FitError` where none fits: that of the fastest.
    """
    blocks, found = sizes.config.num_layers, []
    alone = _seconds(stations[0].rate, sizes, request, _whole(request))
    for parts in _ways(stations, sizes, request, throughout):
        pairs = zip(stations, parts, strict=True)
        seconds = tuple(_seconds(each.rate, sizes, request, part) for each, part in pairs)
        sent, received = sent_bytes(sizes, request, parts), received_bytes(sizes, request, parts)
        found.append(Spread(parts, (), seconds, sent, received, alone, blocks))
    refused: FitError | None = None
    for spread in sorted(found, key=lambda spread: spread.step):
        try:
            return replace(spread, plans=_plans(stations, sizes, request, spread.parts))
        except FitError as error:
            refused = refused or error
    assert refused is not None, "there is always a way"
    raise refused


def _ways(
    stations: Sequence[Station], sizes: ModelSizes, request: ClipRequest, throughout: bool
) -> Iterator[tuple[Part, ...]]:
    every = tuple(range(request.all_branches))
    yield _shares(stations, sizes, request, every)
    if throughout and len(stations) % 2 == 0:
        half = len(stations) // 2
        positive, negative = stations[:half], stations[half:]
        yield (*_shares(positive, sizes, request, (0,)), *_shares(negative, sizes, request, (1,)))


def _shares(
    stations: Sequence[Station], sizes: ModelSizes, request: ClipRequest, branches: tuple[int, ...]
) -> tuple[Part, ...]:
    """One span of tokens each, in order."""
    cuts = balanced_cuts(request.layout, [_pace(each.rate, sizes, request) for each in stations])
    spans = pairwise((0, *cuts, request.layout.tokens))
    return tuple(Part(branches, *span, number, len(stations)) for number, span in enumerate(spans))


def _pace(rate: Rate, sizes: ModelSizes, request: ClipRequest) -> list[float]:
    """Seconds a token of each shot."""
    layout = request.layout
    spans = [layout.token_span(shot) for shot in range(layout.shots)]
    return [rate.seconds(part_operations(sizes, request, span)) / len(span) for span in spans]


def part_operations(sizes: ModelSizes, request: ClipRequest, tokens: range) -> Operations:
    """Operations of one branch's forward for some of the tokens."""
    config, layout, sparse = sizes.config, request.layout, request.attention == "sparse"
    whole = forward_operations(config, layout, request.attention, linear=sizes.linear)
    shared = layout.shots * layout.frame_tokens
    pairs = 0
    for shot in range(layout.shots):
        span = layout.token_span(shot)
        pairs += len(common(span, tokens)) * (shared + len(span) if sparse else layout.tokens)
    part = len(tokens) / layout.tokens
    linear, coded = int(whole.linear * part), int(whole.eight_bit * part)
    return Operations(linear, _scores(config, pairs), coded)


def _scores(config: DiTConfig, pairs: int) -> int:
    return config.num_layers * 4 * config.dim * pairs


def _seconds(rate: Rate, sizes: ModelSizes, request: ClipRequest, part: Part) -> float:
    return len(part.branches) * rate.seconds(part_operations(sizes, request, part.tokens))


def _whole(request: ClipRequest) -> Part:
    return Part(tuple(range(request.all_branches)), 0, request.layout.tokens)


def _plans(
    stations: Sequence[Station], sizes: ModelSizes, request: ClipRequest, parts: Sequence[Part]
) -> tuple[Plan, ...]:
    """Each rank's plan. Where one has no room for both branches in a visit, none visits so."""
    pairs = enumerate(zip(stations, parts, strict=True))
    found = tuple(_plan(each, sizes, replace(request, part=part, leads=n == 0)) for n, (each, part) in pairs)
    if all(plan.joint for plan in found) or not any(plan.joint for plan in found):
        return found
    apart = [replace(each, profile=replace(each.profile, cfg="sequential")) for each in stations]
    return _plans(apart, sizes, request, parts)


def _plan(station: Station, sizes: ModelSizes, request: ClipRequest) -> Plan:
    """A rank's plan. What would fit in its place depends on the other ranks, too: that is not searched for."""
    problem = Problem(station.profile, sizes, request, station.machine)
    if problem.fits():
        plan = make_plan(station.profile, sizes, request, station.machine)
        return plan if request.branches > 1 or not request.guided else replace(plan, joint=False)  # it has one
    needs, room = memory_text(max(problem.least().values())), memory_text(problem.room)
    raise FitError(
        f"{station.name}: its part of the clip needs {needs} at least, and {room} may be used; make the clip "
        "shorter or smaller, or give more devices",
        f"{station.name}: needs {needs} of {room}",
    )
