"""How much memory each phase of a run holds on the device at its worst moment.

The runtime allocates by these sums, in bytes, with e bytes a number:

    text        slots · largest text block + rest + activations + unpacked + 2 prompts' rows
    an expert   rest + slots · largest block of either expert + resident blocks
                + streams + text rows + latents + tables + step cache
                + the worst of: a layer with its weights unpacked, the head
    decode      latents + decoder's weights + a frame in work with its feature cache, and the one before, or a tile
                and its canvas (on a CPU the other tiles' caches, too, which elsewhere wait in main memory)
    encode      for pictures and foreign videos, before all else: the same of the VAE's encoder

**Streams, layers, head** are `holo_lite.model.memory`'s: two branches at once (joint), or one. **Text rows** of
both branches stay either way, as read and as embedded. **Latents** (fp32, 256 bytes a token): the noise that the
run began with, the current ones, the last step's velocity and clean estimate, and, where branches run one after
the other, the first one's velocity; where frames are frozen, their clean latents and noise, and what an expert sees
in place of the current ones. **Tables** are small: angles, and the timestep's modulation. The **step
cache**, if there is one, keeps a residual of each branch, as large as its stream, and the last computed step's
latents and velocity. It fills them in place, and a step that it saves takes less than others.

**Unpacked** is what a packed layer's weights are once dense, or any layer's in 8 bits if it is multiplied so; the
peak is taken layer by layer, for the hungriest layer's working set and the largest weights need not meet. Before a
layer works, its last weight is being unpacked, slice by slice, with 8 bytes a number of a slice at most: two
tensors in fp32; self-attention has its buffer of keys and values by then. Weights that are stored in another dtype
than the computing one are **cast**, and exist in both while their block is in use, or resident.

**Adapters** make changed copies of weights that were not packed, and these count as unpacked. The factors of one
weight at a time are copied to a card; on a CPU all of an expert's are in the same memory. Changed embeddings of
text and time are made before there are streams, the head's weight while they exist.

**Layers** count what their attention kernel holds, where it is one that does. On a card come the workspaces of its
matrix library, and slots, resident blocks and the rest are counted in whole segments (`granted`); on a
CPU comes the ring of host buffers, which is the same memory there. `tests/plan/test_plan_measured.py` runs the real
thing against these sums, `tests/plan/test_full_size.py` at full size, and `benchmarks.allocator` whole runs against
a model of a card's allocator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from holo_lite.config import PATCH, TEXT_ROWS, Attention
from holo_lite.eightbit.limits import FP32, LinearMode
from holo_lite.film.tiling import Tile
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.memory import WorkingSet, working_set
from holo_lite.model.parts import Part
from holo_lite.plan.decoding import Decoder
from holo_lite.plan.encoding import attention, copied_biases, linears
from holo_lite.plan.pixels import PixelEncoder
from holo_lite.plan.profile import MIB, Device
from holo_lite.plan.sizes import ModelSizes, StackSizes
from holo_lite.schemes.scheme import CUDA_SLICES, SLICE
from holo_lite.settings import OFF, RunSettings, without_memory
from holo_lite.story.shots import FRAMES_PER_LATENT, LATENTS_PER_TOKEN, ShotLayout
from holo_lite.story.timing import Timing

UNPACKING = 8  # bytes a number of a slice in work that a scheme needs on top of what it unpacks to, at most
WORKSPACE = 32 * MIB  # cuBLAS: 32 MiB on Hopper, 8 MiB elsewhere (PyTorch's notes on CUDA semantics)
UNCUT = 8 * MIB  # a large tensor may keep up to 1 MiB that PyTorch's allocator gives it too much
PROMPTS = 2
TIMESTEP = 14  # rows of the model's width: embedded, the blocks' six, those with a block's own, and what is in work
EMBEDDINGS = ("text_embedding", "time_embedding", "time_projection")
LARGE, SEGMENT = 10 * MIB, 2 * MIB  # for buffers of 10 MiB or more PyTorch's allocator takes segments of 2 MiB


def granted(nbytes: int, device: Device) -> int:
    """Bytes that a buffer that stays takes there: on a card what is left of its last segment serves little else."""
    return nbytes if device == "cpu" or nbytes < LARGE else -(-nbytes // SEGMENT) * SEGMENT


@dataclass(frozen=True)
class ClipRequest:
    """What a clip asks of the memory: its shots and size, who attends to whom, guidance, and a step cache.

    `frozen` are latent frames that are given. Guidance that ends before the run does is planned for as if it
    lasted, and a cache for one expert as for both. `part` is what of a step is computed here (None: all of it), and
    `leads` whether prompts are read and frames decoded here, too.
    """

    layout: ShotLayout
    attention: Attention = "sparse"
    guided: bool = True
    cached: bool = False
    frozen: int = 0
    timing: Timing | None = dataclasses.field(default=None, compare=False)  # for advice alone
    part: Part | None = None
    leads: bool = True

    @classmethod
    def of(cls, settings: RunSettings) -> ClipRequest:
        """What a run asks."""
        timing = Timing.of(settings.storyboard, *without_memory(settings), settings.fps)
        frozen = len(settings.frozen.latent_frames(settings.layout))
        return cls(settings.layout, settings.attention, settings.is_guided, settings.cache != OFF, frozen, timing)

    @property
    def branches(self) -> int:
        """Guidance branches of a step that are computed here."""
        return len(self.part.branches) if self.part is not None else self.all_branches

    @property
    def all_branches(self) -> int:
        """Guidance branches of a step."""
        return 2 if self.guided else 1

    def clip(self, chunks: Chunks = Chunks()) -> Clip:  # noqa: B008 - frozen
        """The clip as a forward here sees it."""
        clip = Clip(self.layout, self.attention, chunks)
        share = self.part.share if self.part is not None else None
        return clip if share is None else clip.shared_out(share)

    @property
    def frames(self) -> int:
        """Video frames."""
        return FRAMES_PER_LATENT * (self.layout.latent_frames - 1) + 1

    @property
    def latents(self) -> tuple[int, int]:
        """Rows and columns of latents in a frame."""
        return self.layout.rows * LATENTS_PER_TOKEN, self.layout.columns * LATENTS_PER_TOKEN


@dataclass(frozen=True)
class LayerPeak:
    """Bytes of a layer's working memory, and of its unpacked weights in addition to the stored ones."""

    work: int
    ready: int

    @property
    def total(self) -> int:
        """Both."""
        return self.work + self.ready


@dataclass(frozen=True)
class Arithmetic:
    """The sums of one model, clip and device."""

    sizes: ModelSizes
    request: ClipRequest
    device: Device
    slots: int

    @property
    def latents(self) -> int:
        """Bytes of one set of latents, fp32."""
        return self.request.layout.tokens * self.sizes.config.in_dim * PATCH**2 * FP32

    @property
    def workspace(self) -> int:
        """Bytes of libraries' workspaces, and of what the allocator gives too much."""
        return WORKSPACE + UNCUT if self.device == "cuda" else 0

    @property
    def decoder(self) -> Decoder:
        """The decoder as it computes on this device: a CPU decodes in fp32."""
        return (
            dataclasses.replace(self.sizes.decoder, bytes_per_number=FP32)
            if self.device == "cpu"
            else self.sizes.decoder
        )

    @property
    def pixel_encoder(self) -> PixelEncoder:
        """The VAE's encoder, as wide as the decoder and in its numbers."""
        return PixelEncoder(self.decoder.base_dim, self.decoder.bytes_per_number)

    def ring(self, slot: int, buffers: int) -> int:
        """Bytes of host buffers that count as the device's: on a CPU all of them."""
        return buffers * slot if self.device == "cpu" else 0

    def adapters(self, stack: StackSizes) -> int:
        """Bytes of an expert's adapters that count as the device's: on a CPU all of them."""
        return stack.adapters if self.device == "cpu" else 0

    def text(self, buffers: int) -> int:
        """Peak while prompts are read."""
        if not self.request.leads:
            return 0
        stack, encoder, e = self.sizes.text, self.sizes.encoder, self.sizes.bytes_per_number
        rows = PROMPTS * TEXT_ROWS * encoder.d_model * e
        unpacking = max((self._unpacking(stack, layer).total for layer in stack.unpacked), default=0)
        copied = copied_biases(encoder, e) if self.device == "cuda" else 0
        work = max(attention(encoder, e) + copied, linears(encoder, e) + unpacking) + stack.cast + rows
        slots = self.slots * granted(stack.slot, self.device)
        return stack.rest + slots + self.ring(stack.slot, buffers) + work + self.workspace

    def denoise(self, stack: StackSizes, chunks: Chunks, buffers: int, *, joint: bool) -> int:
        """Peak while an expert works, without resident blocks."""
        return sum(self.denoising(stack, chunks, buffers, joint=joint).values())

    def denoising(self, stack: StackSizes, chunks: Chunks, buffers: int, *, joint: bool) -> dict[str, int]:
        """The same by what takes it, in the words of a person."""
        at_once = self.request.branches if joint else 1
        work = self._work(chunks, at_once)
        moments = [*self._layers(work, stack), *self._head(work, stack)]
        hardest = max(moments, key=lambda moment: moment.total)
        embedding = max((self._unpacking(stack, layer) for layer in EMBEDDINGS), key=lambda moment: moment.total)
        streams = work.streams
        if embedding.total > streams + hardest.total:  # they are made before there are streams
            streams, hardest = 0, embedding
        return {
            "slots": self._slots() + stack.cast + self.ring(self.sizes.slot, buffers),
            "weights outside blocks": granted(stack.rest, self.device),
            "adapters": self.adapters(stack),
            "residual streams": streams,
            "latents and text": self._latents_kept(at_once) + self._texts() + self._tables(),
            "the step cache": self._step_cache(work.streams // at_once),
            "working memory of a layer": hardest.work,
            "its unpacked weights": hardest.ready,
            "libraries": self.workspace,
        }

    def _slots(self) -> int:
        return self.slots * granted(self.sizes.slot, self.device)

    def _work(self, chunks: Chunks, at_once: int) -> WorkingSet:
        return working_set(
            self.sizes.config,
            self.request.clip(chunks),
            bytes_per_number=self.sizes.bytes_per_number,
            branches=at_once,
            linear=self.sizes.linear,
            device=self.device,
            workspace=self.sizes.workspace,
        )

    def decode(self, tile: Tile | None) -> int:
        """Peak while frames are decoded."""
        if not self.request.leads:
            return 0
        height, width = self.request.latents
        decoder = self.decoder
        if tile is None:
            frame = decoder.frame(height, width) + decoder.pixels(
                height, width
            )  # the last one, while it is written
        else:
            frame = decoder.tiled(height, width, tile)
        waiting = 0 if tile is None or self.device != "cpu" else decoder.host_caches(height, width, tile)
        return self.latents + decoder.weights + frame + waiting + self.workspace

    def encode(self, tile: Tile | None) -> int:
        """Peak while frames are encoded, the latents of the clip among it."""
        height, width = self.request.latents
        encoder = self.pixel_encoder
        waiting = 0 if tile is None or self.device != "cpu" else encoder.host_caches(height, width, tile)
        return self.latents + encoder.weights + encoder.blended(height, width, tile) + waiting + self.workspace

    def _texts(self) -> int:
        """Rows of all branches, as the encoder left them and as the expert embeds them."""
        config = self.sizes.config
        read, embedded = self.request.all_branches * config.text_dim, self.request.branches * config.dim
        return TEXT_ROWS * (read + embedded) * self.sizes.bytes_per_number

    def _latents_kept(self, at_once: int) -> int:
        """Noise, current ones, the last step's velocity and estimate, and a velocity of each branch done before."""
        return (4 + self.request.branches - at_once) * self.latents + self._frozen()

    def _frozen(self) -> int:
        """Of frozen frames the clean latents and the noise, and all latents once more as an expert sees them."""
        count, layout = self.request.frozen, self.request.layout
        return self.latents + 2 * self.latents * count // layout.latent_frames if count else 0

    def _step_cache(self, stream: int) -> int:
        """A residual of every branch, and what the last computed step began with and came to."""
        return self.request.branches * stream + 2 * self.latents if self.request.cached else 0

    def _tables(self) -> int:
        """Angles of all frames, rows and columns, and what the timestep makes of a block's modulation."""
        config, layout = self.sizes.config, self.request.layout
        angles = (layout.latent_frames + layout.rows + layout.columns) * config.head_dim * FP32
        return angles + TIMESTEP * config.dim * self.sizes.bytes_per_number

    def _layers(self, work: WorkingSet, stack: StackSizes) -> Iterator[LayerPeak]:
        """Each layer of the blocks while it computes, and before that while its last weight is being unpacked."""
        linear, e = self.sizes.linear, self.sizes.bytes_per_number
        layers = {"self_attn": work.self_attention, "cross_attn": work.cross_attention, "ffn": work.feed_forward}
        ready = {name: stack.ready(name, linear, e) for name in layers}
        if work.carried:  # all are there at once
            ready = dict.fromkeys(layers, sum(ready.values()))
        for name, own in layers.items():
            yield LayerPeak(own, ready[name])
            before = work.keys_values if name == "self_attn" or work.carried else 0
            yield LayerPeak(before + self._unpacking(stack, name, linear).work, ready[name])
        if not work.carried:
            yield LayerPeak(work.feed_forward + self._of_no_use(work, stack), ready["ffn"])

    def _of_no_use(self, work: WorkingSet, stack: StackSizes) -> int:
        """What a card keeps of self-attention while the feed-forward needs other memory: its weights are larger."""
        linear = self.sizes.linear
        weight = stack.made("ffn", linear) * (self.sizes.bytes_per_number if linear == "plain" else 1)
        short = self.device == "cuda" and work.keys_values < 2 * weight
        return work.keys_values + work.held if short else 0

    def _head(self, work: WorkingSet, stack: StackSizes) -> Iterator[LayerPeak]:
        yield LayerPeak(work.head, stack.dense("head") * self.sizes.bytes_per_number)
        yield self._unpacking(stack, "head")

    def _unpacking(self, stack: StackSizes, layer: str, linear: LinearMode = "plain") -> LayerPeak:
        """A layer's weights ready, and the last of them just being unpacked, or its factors just being added."""
        slice_ = SLICE * (CUDA_SLICES if self.device == "cuda" else 1)
        scratch = UNPACKING * min(stack.made(layer, linear), slice_)
        factors, e = stack.factors.get(layer, 0), self.sizes.bytes_per_number
        ready = stack.ready(layer, linear, e)
        if linear != "plain":  # added to slices in fp32
            return LayerPeak(scratch + factors * FP32 // e, ready)
        return LayerPeak(max(scratch, factors if self.device == "cuda" else 0), ready)
