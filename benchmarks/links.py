"""Arithmetic, and nothing measured: a step on 2 and 4 cards over slow and fast links, beside Ulysses attention.

    python -m benchmarks.links [--card "RTX 4090"] [--frames 241] [--shots 5]

Arithmetic takes what `plan` counts for the card. What travels is what the busiest card receives, at the link's
nominal rate, and nothing of it hides behind arithmetic. Ulysses gives every card all tokens of some heads: of
queries, keys, values and results a card sends and receives (N - 1) / N of its N-th part, in every block and branch,
and its arithmetic is the N-th part exactly. Prints a table, then one line of JSON.
"""

from __future__ import annotations

import json
from typing import Any

import click

from holo_lite.plan.cards import find_card
from holo_lite.plan.cost import vendor_rate
from holo_lite.plan.machine import machine_with
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.profile import find_profile
from holo_lite.plan.rank_plans import Spread, Station
from holo_lite.plan.released import released_sizes
from holo_lite.plan.sizes import ModelSizes
from holo_lite.plan.spread import choose_spread
from holo_lite.story.shots import ShotLayout, even_cuts

LINKS = {"PCIe 4.0 x16": 31.5e9, "PCIe 3.0 x8": 7.9e9, "10 Gbit network": 1.25e9}
SIZE = 480, 832


def ulysses(sizes: ModelSizes, request: ClipRequest, ranks: int) -> int:
    """Bytes that a rank receives in a block: queries, keys, values and results of all branches."""
    tokens = request.layout.tokens / ranks
    return int(4 * request.branches * tokens * sizes.config.dim * sizes.bytes_per_number * (ranks - 1) / ranks)


def rows(card: str, request: ClipRequest, sizes: ModelSizes) -> list[dict[str, Any]]:
    """Seconds of a step by cards, way and link."""
    known = find_card(card)
    rate = vendor_rate(known)
    assert rate is not None, f"{card}: its rate is not known"
    profile = next(name for name in ("32gb", "24gb", "16gb", "12gb", "8gb", "6gb") if fits(name, known.memory))
    station = Station(known.name, find_profile(profile), machine_with(known), rate)
    found = []
    for count in (2, 4):
        ways = {throughout: spread(station, count, sizes, request, throughout) for throughout in (True, False)}
        alone = ways[True].alone
        once = {way.way: way for way in ways.values()}.values()
        found += [timed(way.way, count, max(way.seconds), way.received, alone, sizes) for way in once]
        found.append(timed("Ulysses", count, alone / count, ulysses(sizes, request, count), alone, sizes))
    return found


def fits(profile: str, memory: int) -> bool:
    """Whether a card has what a profile is for."""
    return find_profile(profile).card <= memory * 1.05


def spread(station: Station, count: int, sizes: ModelSizes, request: ClipRequest, throughout: bool) -> Spread:
    """The clip over so many cards; without branches in every step shots are apart."""
    return choose_spread([station] * count, sizes, request, throughout=throughout)


def timed(way: str, cards: int, arithmetic: float, nbytes: int, alone: float, sizes: ModelSizes) -> dict[str, Any]:
    """A row: seconds of a step over each link, and how many times as fast as one card."""
    blocks = sizes.config.num_layers
    steps = {name: arithmetic + blocks * nbytes / rate for name, rate in LINKS.items()}
    gains = {name: alone / seconds for name, seconds in steps.items()}
    return {
        "way": way,
        "cards": cards,
        "received": nbytes,
        "arithmetic": arithmetic,
        "steps": steps,
        "gains": gains,
    }


@click.command()
@click.option("--card", default="RTX 4090")
@click.option("--frames", type=int, default=241)
@click.option("--shots", type=int, default=5)
def main(card: str, frames: int, shots: int) -> None:
    """Print a table and a line of JSON."""
    cuts = even_cuts(frames, shots) if shots > 1 else ()
    request = ClipRequest(ShotLayout.from_frames(frames, cuts, *SIZE))
    found = rows(card, request, released_sizes("nf4"))
    print(f"{'cards':6}{'way':34}{'received':>12}{'arithmetic':>12}" + "".join(f"{name:>22}" for name in LINKS))
    for row in found:
        cells = "".join(f"{row['steps'][name]:13.1f} s {row['gains'][name]:5.2f} x" for name in LINKS)
        print(f"{row['cards']:<6}{row['way']:34}{row['received'] / 1e6:9.0f} MB{row['arithmetic']:10.1f} s{cells}")
    print(json.dumps({"arithmetic": "links", "card": card, "frames": frames, "shots": shots, "rows": found}))


if __name__ == "__main__":
    main()
