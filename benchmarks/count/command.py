"""What a block and the decoder ask of a card, counted without one, and what that would come to on named cards.

    python -m benchmarks.count [--frames 33 --frames 241] [--operations]

Launches, bytes by sectors of 32, allocations and host dispatches of one block of the released model, both guidance
branches, in five shots of 480x832, next to its products and attentions; then the same figures of the reference's
way and of diffusers, of making weights ready and of decoding. Everything is counted or arithmetic: nothing is
measured. A table, then one line of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from benchmarks.count import roofline
from benchmarks.count.block import FUSED, HELD, WAYS, Way, clip_of, count_block, count_making_ready
from benchmarks.count.decode import LATENT_FRAMES, Decoding, count_decode
from benchmarks.count.others import count_diffusers, count_reference
from benchmarks.count.tally import Tally
from benchmarks.speed.scale import FRAMES
from holo_lite.model.clip import Chunks

READY = (
    Way("nf4", scheme="nf4"),
    Way("int8, multiplied in bf16", scheme="int8"),
    Way("int8", linear="int8", scheme="int8"),
    Way("bf16, multiplied in int8", linear="int8"),
    Way("nf4, multiplied in int8", linear="int8", scheme="nf4"),
)
OTHERS = {"the reference's way": count_reference, "diffusers": count_diffusers}
JUDGED = 241  # frames of the table of cards

Found = dict[str, Any]


@click.command(help=__doc__)
@click.option("--frames", type=int, multiple=True, default=FRAMES, show_default=True, help="Lengths of clips.")
@click.option("--operations", is_flag=True, help="Show every operation.")
def main(frames: tuple[int, ...], *, operations: bool) -> None:
    ways = *WAYS, *HELD
    found = {length: {way.name: count_block(clip_of(length), way) for way in ways} for length in frames}
    for length, counts in found.items():
        for line in (*block_lines(length, counts), ""):
            print(line)
        for line in operation_lines(counts) if operations else ():
            print(line)
    cards = card_figures(found[JUDGED]) if JUDGED in found else []
    others = other_figures(found)
    ready = {way.name: count_making_ready(way) for way in READY}
    decoding = count_decode()
    told = *card_lines(cards), "", *other_lines(others), "", *ready_lines(ready), "", *decode_lines(decoding)
    for line in told:
        print(line)
    blocks = [
        figures(tally, frames=length, way=way) for length, ways in found.items() for way, tally in ways.items()
    ]
    made = [figures(tally, way=way) for way, tally in ready.items()]
    parts = {"blocks": blocks, "cards": cards, "others": others}
    print(json.dumps({**parts, "ready": made, "decode": decode_figures(decoding)}))


def figures(tally: Tally, **says: Any) -> Found:
    """A count as plain numbers."""
    beside = tally.summed(beside=True)
    products, attended = tally.summed(kind="product"), tally.summed(kind="attention")
    return {
        **says,
        "launches": beside.launches,
        "bytes": beside.nbytes,
        "products": products.launches,
        "product_operations": products.operations,
        "attentions": attended.launches,
        "attention_operations": attended.operations,
        "allocations": tally.allocations,
        "dispatches": tally.dispatches,
    }


def block_lines(frames: int, counts: dict[str, Tally]) -> Iterator[str]:
    """One block at a length, a line a way."""
    clip = clip_of(frames)
    yield f"one block, both branches, {frames} frames in {clip.layout.shots} shots ({clip.layout.tokens} tokens)"
    heads = f"{'launches':>9} {'GB':>7}   {'products':>8} {'TFLOP':>6}   {'attentions':>10} {'TFLOP':>6}"
    yield f"{'next to products and attentions':32} {heads}   {'allocations':>11} {'dispatches':>10}"
    for way, tally in counts.items():
        each = figures(tally)
        products = f"{each['products']:8} {each['product_operations'] / 1e12:6.1f}"
        attended = f"{each['attentions']:10} {each['attention_operations'] / 1e12:6.1f}"
        own = f"{each['launches']:9} {each['bytes'] / 1e9:7.1f}"
        yield f"{way:32} {own}   {products}   {attended}   {each['allocations']:11} {each['dispatches']:10}"


def operation_lines(counts: dict[str, Tally]) -> Iterator[str]:
    """Every operation of every way, most bytes first."""
    for way, tally in counts.items():
        yield way
        for (layer, name), total in tally.by_operation().items():
            yield f"    {layer or 'block':16} {name:44} {total.launches:5} launches {total.nbytes / 1e9:8.2f} GB"
        yield ""


def card_figures(counts: dict[str, Tally]) -> list[Found]:
    """Every way on every card, by the roofline."""
    clip, found = clip_of(JUDGED), []
    for card in roofline.CARDS:
        chunks = 64 * card.multiprocessors
        filled = clip_of(JUDGED, Chunks(chunks, chunks))
        useful = [roofline.useful_share(each, card) for each in (clip, filled)]
        for way in WAYS:
            each = roofline.estimate(counts[way.name], card, way.linear)
            parts = {"floor": each.floor, "moving": each.moving, "launching": each.launching}
            over = {"over_the_floor": each.over_the_floor, "useful": useful[0], "useful_filled": useful[1]}
            found.append({"card": card.name, "way": way.name, **parts, **over})
    return found


def card_lines(found: list[Found]) -> Iterator[str]:
    """The rates that are assumed, then each way on each card."""
    if not found:
        return
    yield "rates assumed of cards, next to what NVIDIA states; 5 µs a launch"
    yield f"{'':12} {'SMs':>4} {'bf16 TFLOPS':>16} {'attention':>9} {'8 bits':>7} {'GB/s':>13}"
    for card in roofline.CARDS:
        rate = f"{card.products / 1e12:.0f} of {card.vendor / 1e12:.0f}"
        memory = f"{card.bandwidth / 1e9:.0f} of {card.stated / 1e9:.0f}"
        others = f"{card.attentions / 1e12:9.0f} {card.eight_bits / 1e12:7.0f}"
        yield f"{card.name:12} {card.multiprocessors:4} {rate:>16} {others} {memory:>13}"
    yield ""
    yield f"arithmetic with these rates, {JUDGED} frames: milliseconds of a block. Apart from them, the share of"
    yield "time in which every multiprocessor has a tile, with chunks of 8192 and 4096 tokens and of 64 an SM"
    times = f"{'floor':>8} {'moving':>8} {'launching':>9} {'x the floor':>11}"
    yield f"{'':12} {'':8} {times}   {'tiles':>6} {'by SMs':>6}"
    for each in found:
        times = f"{1e3 * each['floor']:8.0f} {1e3 * each['moving']:8.1f} {1e3 * each['launching']:9.1f}"
        tiles = f"{each['useful']:6.1%} {each['useful_filled']:6.1%}"
        yield f"{each['card']:12} {each['way']:8} {times} {each['over_the_floor']:11.3f}   {tiles}"


def other_figures(counts: dict[int, dict[str, Tally]]) -> list[Found]:
    """Other ways to compute the same block: their counts, and on each card their seconds over ours, fused."""
    found = []
    for frames, ways in counts.items():
        for name, count in OTHERS.items():
            tally, ours = count(clip_of(frames)), ways[FUSED.name]
            ratios = {
                card.name: roofline.estimate(tally, card).seconds / roofline.estimate(ours, card).seconds
                for card in roofline.CARDS
            }
            found.append({**figures(tally, frames=frames, way=name), "as_ours": ratios})
    return found


def other_lines(found: list[Found]) -> Iterator[str]:
    """Launches and bytes of other ways, and how many times as long as ours they take."""
    yield "other ways, next to products and attentions; by the same arithmetic, their seconds over ours, fused"
    for each in found:
        name = f"{each['way']}, {each['frames']} frames"
        ratios = "   ".join(f"{card} {ratio:.2f}" for card, ratio in each["as_ours"].items())
        attended = f"{each['attention_operations'] / 1e12:6.1f} TFLOP attended"
        yield f"{name:32} {each['launches']:9} {each['bytes'] / 1e9:7.1f}   {attended}   {ratios}"


def ready_lines(counts: dict[str, Tally]) -> Iterator[str]:
    """What making a block's weights ready takes, once a visit."""
    yield "making a block's weights ready, once a visit"
    for way, tally in counts.items():
        total = tally.summed()
        yield f"{way:32} {total.launches:9} {total.nbytes / 1e9:7.1f}"


def decode_figures(decoding: Decoding) -> Found:
    """Of the first latent frame, of a later one, and of a clip."""
    whole = decoding.whole()
    frames = {"first": figures(decoding.first), "later": figures(decoding.later)}
    total = {"launches": whole.launches, "bytes": whole.nbytes, "operations": whole.operations}
    return {**frames, "latent_frames": LATENT_FRAMES, "whole": total}


def decode_lines(decoding: Decoding) -> Iterator[str]:
    """Decoding, a latent frame and a whole clip."""
    yield "decoding whole frames of 480x832"
    for name, tally in (("first latent frame", decoding.first), ("later latent frame", decoding.later)):
        total = tally.summed()
        work = f"{total.launches:9} {total.nbytes / 1e9:7.1f}   {'':8} {total.operations / 1e12:6.1f}"
        yield f"{name:32} {work}   {'':10} {'':6}   {tally.allocations:11} {tally.dispatches:10}"
    whole = decoding.whole()
    work = f"{whole.launches:9} {whole.nbytes / 1e9:7.0f}   {'':8} {whole.operations / 1e12:6.0f}"
    yield f"{f'{LATENT_FRAMES} latent frames':32} {work}"


if __name__ == "__main__":
    main()
