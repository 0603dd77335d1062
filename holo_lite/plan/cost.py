"""How much arithmetic a run is, and how long it may take.

Counted are multiplications and additions of matrix products and attention, two operations each. With n tokens,
width d, inner width f, and m rows of text, a block has

    linear      2n (4d² + 2d² + 2df) + 4 m d²    self-attention, cross-attention, feed-forward; the text's k and v
    attention   4d (Σ nₛ kₛ + n m)               nₛ tokens of shot s see kₛ rows of keys: their own and every
                                                 shot's first frame (sparse), or all n (full)

and the forward has as much again as it has blocks, the embeddings and the head. At 480x832 with 241 frames in
five shots that is 2.3 PFLOP linear, and 2.1 sparse or 7.4 full attention. A prompt is embedded once an expert,
which is not counted. Steps after guidance has ended have half the operations of those before. How many steps a step
cache will skip are not known in advance: they are counted as computed. In 8 bits the blocks' linear operations are
counted apart, for they have a rate of their own.

Time is operations divided by a rate, and the rate's origin is always reported with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from holo_lite.config import PATCH, TEXT_ROWS, Attention, DiTConfig, Expert
from holo_lite.eightbit.limits import LinearMode, unfit
from holo_lite.plan import encoding
from holo_lite.plan.decoding import Decoder
from holo_lite.plan.known_card import KnownCard
from holo_lite.plan.phases import PROMPTS, ClipRequest
from holo_lite.plan.plan import Plan
from holo_lite.plan.sizes import ModelSizes
from holo_lite.progress import Phase
from holo_lite.sampling.schedule import Schedule
from holo_lite.story.shots import ShotLayout

ASSUMED_SHARE = 0.5  # of a vendor's peak: an assumption, no measurement


@dataclass(frozen=True)
class Operations:
    """Operations of matrix products, of attention, and of products in 8 bits."""

    linear: int = 0
    attention: int = 0
    eight_bit: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.linear + self.attention + self.eight_bit

    def times(self, count: int) -> Operations:
        """So many times as much."""
        return Operations(self.linear * count, self.attention * count, self.eight_bit * count)


@dataclass(frozen=True)
class Rate:
    """Operations a second in matrix products, attention and products in 8 bits, and where the figures come from.

    eight_bit: None where it is not known; such products are then taken to be as fast as others. measured: on the
    device itself, not by what its vendor says.
    """

    linear: float
    attention: float
    basis: str
    eight_bit: float | None = None
    measured: bool = field(default=False, compare=False)

    def seconds(self, operations: Operations) -> float:
        """How long the operations take."""
        others = operations.linear / self.linear + operations.attention / self.attention
        return others + operations.eight_bit / (self.eight_bit or self.linear)


@dataclass(frozen=True)
class PhaseCost:
    """A phase: how often its step is repeated, and the operations of one.

    `unguided` of the steps, the last ones, compute one of two guidance branches, and take half as many.
    """

    steps: int
    step: Operations
    unguided: int = 0

    def seconds(self, rate: Rate) -> float:
        """How long the phase takes if nothing but arithmetic takes time."""
        return rate.seconds(self.step) * (self.steps - self.unguided / 2)

    @property
    def total(self) -> float:
        """All operations of the phase."""
        return self.step.total * (self.steps - self.unguided / 2)


def forward_operations(
    config: DiTConfig,
    layout: ShotLayout,
    attention: Attention,
    text_rows: int = TEXT_ROWS,
    linear: LinearMode = "plain",
) -> Operations:
    """Operations of one forward for one guidance branch, whose tokens see at most `text_rows` rows of text."""
    n, d, f, layers = layout.tokens, config.dim, config.ffn_dim, config.num_layers
    square, oblong = layers * (12 * n + 4 * TEXT_ROWS) * d * d, layers * 4 * n * d * f
    ends = 2 * n * d * PATCH**2 * (config.in_dim + config.out_dim) + 2 * d * (config.freq_dim + d + 6 * d)
    scores = attended_pairs(layout, attention) + n * text_rows
    coded = 0
    if linear != "plain":
        coded += square if unfit(linear, d, d) is None else 0
        coded += oblong if unfit(linear, f, d) is None else 0
    return Operations(square + oblong + ends - coded, layers * 4 * d * scores, coded)


def attended_pairs(layout: ShotLayout, attention: Attention) -> int:
    """Pairs of a query and a key in one layer's self-attention."""
    if attention != "sparse":
        return layout.tokens**2
    shared = layout.shots * layout.frame_tokens
    sizes = [len(layout.token_span(shot)) for shot in range(layout.shots)]
    return sum(size * (shared + size) for size in sizes)


def decode_operations(decoder: Decoder, request: ClipRequest, plan: Plan) -> Operations:
    """Operations of decoding the clip as the plan says."""
    height, width = request.latents
    frames = request.layout.latent_frames
    if plan.tile is None:
        return Operations(decoder.operations(height, width, frames))
    return Operations(decoder.tiled_operations(height, width, frames, plan.tile))


def phase_costs(
    sizes: ModelSizes, request: ClipRequest, plan: Plan, schedule: Schedule, cfg_until: float = 1.0
) -> dict[str, PhaseCost]:
    """Operations of every phase of a run, the first share `cfg_until` of whose steps are guided.

    A step of the text phase is a prompt of 512 tokens.
    """
    steps = len(schedule)
    high, guided = schedule.first_low_noise_step, schedule.part(cfg_until) if request.guided else steps
    once = forward_operations(sizes.config, request.layout, request.attention, linear=sizes.linear)
    forward = once.times(request.branches)
    return {
        "text": PhaseCost(PROMPTS if request.guided else 1, Operations(encoding.operations(sizes.encoder))),
        "high_noise": PhaseCost(high, forward, max(0, high - guided)),
        "low_noise": PhaseCost(steps - high, forward, min(steps - guided, steps - high)),
        "decode": PhaseCost(1, decode_operations(sizes.decoder, request, plan)),
    }


def run_work(
    sizes: ModelSizes, request: ClipRequest, plan: Plan, schedule: Schedule, cfg_until: float = 1.0
) -> dict[Phase, float]:
    """Operations of each phase of a run as its events name them: both experts are one phase. As `phase_costs`."""
    costs = phase_costs(sizes, request, plan, schedule, cfg_until)
    denoise = costs["high_noise"].total + costs["low_noise"].total
    return {"text": costs["text"].total, "denoise": denoise, "decode": costs["decode"].total}


def vendor_rate(card: KnownCard, linear: LinearMode = "plain") -> Rate | None:
    """The rate of a card by its vendor's peak and the assumed share of it; None where no peak is known.

    What share of its peaks in 8 bits a card reaches, quantizing included, is not assumed: that is measured.
    """
    if card.tflops is None:
        return None
    rate = card.tflops * 1e12 * ASSUMED_SHARE
    basis = (
        f"by NVIDIA's figure, not measured: {ASSUMED_SHARE:.0%} (assumed) of the {card.tflops:g} TFLOPS "
        f"{card.basis} {card.name}"
    )
    if linear != "plain":
        basis += f", products in {linear} counted as no faster than others"
    return Rate(rate, rate, basis)


def needed_rate(plan: Plan, costs: dict[str, PhaseCost], rate: Rate) -> tuple[float, float]:
    """Bytes a second that must come to the device, and of them from disk, to hide behind the arithmetic of a step.

    The larger of the two experts' needs. A step without guidance reads as much as one with, if both branches share
    a visit of every block, and has half as long to hide it.
    """
    found = []
    for name in ("high_noise", "low_noise"):
        cost = costs[name]
        found.append((plan.phases[name], rate.seconds(cost.step) / (2 if cost.unguided and plan.joint else 1)))
    return max(p.streamed / s for p, s in found), max(p.from_disk / s for p, s in found)


def first_step_rate(read: Mapping[Expert, int], costs: Mapping[str, PhaseCost], rate: Rate) -> float:
    """Bytes a second that the disk must give to hide what an expert's first step reads behind its arithmetic.

    `read` are the bytes of each expert: in its first step all of it comes from disk. The larger of the two needs.
    """
    used = ((nbytes, costs[name]) for name, nbytes in read.items() if costs[name].steps)
    return max(n / rate.seconds(cost.step) * (1 if cost.unguided < cost.steps else 2) for n, cost in used)
