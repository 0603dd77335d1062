"""What the counts would come to on named cards: arithmetic with assumed rates, no measurement.

    floor    products / their rate + attentions / theirs
    block    floor + bytes of all else / bandwidth + launches of all else · 5 µs

Nothing overlaps and nothing finds its data in a cache: on a card some does, and some operation reaches less than
the assumed share of the bandwidth.

**Waves** are apart from that. A product is tiles of 128 x 256 outputs, an attention 128 queries of a head at a
time; a card's multiprocessors take one each, and in the last round some have none. The floor of `benchmarks.speed`
is measured with them; libraries that choose other tiles lose less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.count.tally import Tally
from benchmarks.speed.floor import Attention, Gemm, attentions, gemms
from benchmarks.speed.scale import windows_of
from holo_lite.config import HOLOCINE_14B
from holo_lite.eightbit.limits import LinearMode
from holo_lite.model.clip import Clip
from holo_lite.plan.cards import find_card

LAUNCH = 5e-6  # seconds, assumed: from one launch to the next where the host is no further ahead
TILE = (128, 256)  # rows and outputs of a product's tile
QUERIES = 128  # of a head that attention takes at once


@dataclass(frozen=True)
class Card:
    """A card's rates, a second. `products`, `attentions`, `eight_bits` and `bandwidth` are assumed.

    products: bf16 with fp32 sums; eight_bits: in the format of 8 bits that is faster there. `stated` is what NVIDIA
    says of its bandwidth.
    """

    name: str
    multiprocessors: int
    products: float
    attentions: float
    eight_bits: float
    stated: float
    bandwidth: float

    @property
    def vendor(self) -> float:
        """Operations a second in bf16 as NVIDIA states them."""
        card = find_card(self.name)
        assert card.tflops is not None, f"no rate: {self.name}"
        return card.tflops * 1e12


# Assumed: about 0.9 of what NVIDIA states in bf16 and of the bandwidth on GeForce cards, 0.7 and 0.85 on an H200,
# whose clock sinks under such work; attention a little less. In 8 bits 2.1 times bf16 on GeForce cards (int8), 1.5
# on an H200 (fp8). Multiprocessors and stated bandwidths: NVIDIA's whitepapers of GA102, Ada and Blackwell, and the
# H200's data sheet.
CARDS = (
    Card("RTX 3090", 82, 65e12, 62e12, 136e12, 936e9, 830e9),
    Card("RTX 4090", 128, 150e12, 145e12, 315e12, 1008e9, 890e9),
    Card("RTX 5090", 170, 190e12, 185e12, 400e12, 1792e9, 1580e9),
    Card("H200", 132, 680e12, 600e12, 1000e12, 4800e9, 4100e9),
)


@dataclass(frozen=True)
class Estimate:
    """Seconds of a block on a card: its products and attentions, and of all else moving bytes and launching."""

    card: str
    floor: float
    moving: float
    launching: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.floor + self.moving + self.launching

    @property
    def over_the_floor(self) -> float:
        """As a multiple of the floor."""
        return self.seconds / self.floor


def estimate(tally: Tally, card: Card, linear: LinearMode = "plain") -> Estimate:
    """Put a count through a card's rates."""
    products, attended = tally.summed(kind="product"), tally.summed(kind="attention")
    beside = tally.summed(beside=True)
    rate = card.products if linear == "plain" else card.eight_bits
    floor = products.operations / rate + attended.operations / card.attentions
    return Estimate(card.name, floor, beside.nbytes / card.bandwidth, beside.launches * LAUNCH)


def useful_share(clip: Clip, card: Card) -> float:
    """The share of the time of a forward's products and attentions in which every multiprocessor has work."""
    windows = [windows_of(clip.layout.shots), None]
    found = [*gemms(HOLOCINE_14B, clip, windows), *attentions(HOLOCINE_14B, clip, windows)]
    rounds = list(_rounds(found, card))
    return sum(ideal for ideal, _ in rounds) / sum(taken for _, taken in rounds)


def _rounds(found: Sequence[Gemm | Attention], card: Card) -> Iterator[tuple[float, float]]:
    """Seconds that each needs, and that it takes in whole rounds of tiles."""
    for each in found:
        if isinstance(each, Gemm):
            rows, outputs = TILE
            part = 2 * rows * outputs * each.inputs / (card.products / card.multiprocessors)
            for count in each.rows:
                tiles = -(-count // rows) * -(-each.outputs // outputs)
                ideal = 2 * count * each.inputs * each.outputs / card.products
                yield each.times * ideal, each.times * part * -(-tiles // card.multiprocessors)
        else:
            heads = HOLOCINE_14B.num_heads
            part = 4 * QUERIES * each.keys * HOLOCINE_14B.head_dim / (card.attentions / card.multiprocessors)
            for count in each.queries:
                tiles = -(-count // QUERIES) * heads
                ideal = 4 * count * each.keys * each.width / card.attentions
                yield each.times * ideal, each.times * part * -(-tiles // card.multiprocessors)
