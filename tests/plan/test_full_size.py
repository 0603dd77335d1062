"""The plan's arithmetic at the released size: 14 billion numbers a network, 241 frames, and no memory at all.

Tensors on meta have shapes, dtypes and storages but no data, so the real code runs at full size in seconds while
every byte it would hold is counted. Attention is counted as on a card: the scores are never whole.
Of the plan for a card one term is left out, cuBLAS's workspace, which no tensor stands for. Blocks are two and not
forty: they lie in the slots, and more of them would pass through the same.
"""

from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
import torch
from live_bytes import LiveBytes
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from holo_lite.config import HOLOCINE_14B
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.compute import Compute
from holo_lite.model.dit import WanDiT
from holo_lite.model.linear import pack_linears
from holo_lite.plan.phases import WORKSPACE, Arithmetic, ClipRequest
from holo_lite.plan.released import released_sizes
from holo_lite.sampling.sampler import Context, Guidance, sample
from holo_lite.sampling.schedule import Schedule
from holo_lite.story.shots import ShotLayout, even_cuts
from holo_lite.streaming.hooks import install
from holo_lite.weights.alignment import ALIGNMENT
from holo_lite.weights.names import LINEARS

TWO_BLOCKS = replace(HOLOCINE_14B, num_layers=2)
LAYOUTS = {
    "five shots": (241, even_cuts(241, 5)),
    "one shot": (241, ()),
    "200 and 41 frames": (241, (201,)),
    "33 frames": (33, (17,)),
}
WINDOW = 512  # rows of text a shot sees, at most


@dataclass
class ExpertsOfNothing:
    """Lends an expert whose blocks lie in two slots, as streamed ones do."""

    model: WanDiT
    slot: int

    @contextmanager
    def lend(self, _expert):
        model = self.model
        blocks = [buffer_of(block, self.slot) for block in model.blocks]
        rest = {name: tensor for name, tensor in tensors_of(model).items() if not name.startswith("blocks.")}
        install(model, views(rest, buffer_of(rest)), torch.bfloat16)
        for block, slot in zip(model.blocks, blocks, strict=True):
            install(block, views(tensors_of(block), slot), torch.bfloat16)
        yield model


def skeleton(scheme):
    """An expert on meta, as stored: made before anything is counted."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            model = WanDiT(TWO_BLOCKS)
            names = (name for name, _ in model.named_parameters() if LINEARS.fullmatch(name))
            pack_linears(model, dict.fromkeys(names, scheme) if scheme != "bf16" else {})
    finally:
        torch.set_default_dtype(default)
    return model.requires_grad_(False)


def tensors_of(module):
    return dict(module.named_parameters()) | dict(module.named_buffers())


def buffer_of(tensors, nbytes=None):
    if isinstance(tensors, nn.Module):
        tensors = tensors_of(tensors)
    needed = sum(padded(tensor.nbytes) for tensor in tensors.values())
    assert nbytes is None or 0 <= nbytes - needed < 4096, "a slot holds a block, and no more"
    return torch.empty(nbytes or needed, dtype=torch.uint8)


def views(tensors, buffer):
    """The same tensors one behind the other in a buffer."""
    found, place = {}, 0
    for name, tensor in tensors.items():
        found[name] = buffer[place : place + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        place += padded(tensor.nbytes)
    return found


def padded(nbytes):
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


CASES = [  # every layout with both schemes and both ways, every scheme in both ways
    ("five shots", "bf16", True),
    ("five shots", "int8", False),
    ("one shot", "bf16", False),
    ("one shot", "int8", True),
    ("200 and 41 frames", "bf16", True),
    ("200 and 41 frames", "int8", False),
    ("33 frames", "bf16", False),
    ("33 frames", "int8", True),
]


@pytest.mark.parametrize(("layout", "scheme", "joint"), CASES)
def test_a_step_at_full_size_takes_what_is_planned(layout, scheme, joint):
    frames, cuts = LAYOUTS[layout]
    shots = ShotLayout.from_frames(frames, cuts, 480, 832)
    sizes = released_sizes(scheme, TWO_BLOCKS)
    sums = Arithmetic(sizes, ClipRequest(shots), "cuda", 2)
    planned = sums.denoise(sizes.high_noise, Chunks(), 2, joint=joint) - WORKSPACE
    experts = ExpertsOfNothing(skeleton(scheme), sizes.slot)
    with torch.device("meta"), LiveBytes(computing=False) as live:
        measured = step(live, experts, shots, joint=joint)
    assert 0.85 * planned <= measured <= planned, f"{measured} of {planned}: {measured / planned:.3f}"


@pytest.mark.parametrize("shape", [(2, 64, 16), (3, 100, 32)])
def test_attention_is_counted_on_meta_as_where_it_is_computed(shape):
    """With the sums of rows, which a CPU shows outside of inference mode alone."""
    peaks = []
    for device, mode in (("cpu", torch.no_grad), ("meta", torch.inference_mode)):
        q, k = torch.ones(1, *shape, device=device), torch.ones(1, shape[0], 900, shape[2], device=device)
        with mode(), LiveBytes() as live:
            scaled_dot_product_attention(q, k, k)
        peaks.append(live.peak)
    assert peaks[0] == peaks[1] > 0


HELD, WAVES = Chunks(holding=True), Chunks(10880, 10880, holding=True)  # the second: as on a card of 170 SMs
IN_8_BITS = [  # a clip, how weights are stored and multiplied, whether both branches are at once, and chunks
    ("five shots", "int8", "int8", True, Chunks()),
    ("33 frames", "bf16", "int8", True, Chunks()),
    ("five shots", "int8", "int8", True, HELD),
    ("five shots", "bf16", "fp8", False, Chunks()),
    ("one shot", "qfloat8", "fp8", True, Chunks()),
    # in fp8 a shot whose input is held goes through all layers, with all weights there
    ("five shots", "qfloat8", "fp8", True, HELD),
    ("one shot", "bf16", "fp8", False, HELD),
    ("200 and 41 frames", "bf16", "fp8", True, WAVES),
    ("33 frames", "qfloat8", "fp8", True, WAVES),
]


@pytest.mark.parametrize(("layout", "scheme", "linear", "joint", "chunks"), IN_8_BITS)
def test_a_step_in_8_bits_takes_what_is_planned_for_a_card(monkeypatch, layout, scheme, linear, joint, chunks):
    """A card's kernels allocate their results and nothing else; here such results stand for them."""
    monkeypatch.setattr("holo_lite.eightbit.coding.quantize_plainly_", lambda *_: None)
    monkeypatch.setattr("holo_lite.eightbit.product.reference", product_of_a_card)
    frames, cuts = LAYOUTS[layout]
    shots = ShotLayout.from_frames(frames, cuts, 480, 832)
    sizes = replace(released_sizes(scheme, TWO_BLOCKS), linear=linear)
    sums = Arithmetic(sizes, ClipRequest(shots), "cuda", 2)
    planned = sums.denoise(sizes.high_noise, chunks, 2, joint=joint) - WORKSPACE
    model = skeleton(scheme)
    model.compute = Compute(linear=linear)
    with torch.device("meta"), LiveBytes(computing=False) as live:
        measured = step(live, ExpertsOfNothing(model, sizes.slot), shots, joint=joint, chunks=chunks)
    assert 0.85 * planned <= measured <= planned, f"{measured} of {planned}: {measured / planned:.3f}"


def product_of_a_card(x, weight, _bias, out=None):
    return x.codes.new_empty(len(x.codes), len(weight.codes), dtype=x.dtype) if out is None else out


def step(live, experts, shots, *, joint, chunks=Chunks()):  # noqa: B008 - frozen
    """Most bytes alive in two steps of one expert, after the noise has been drawn."""
    windows = tuple(torch.arange(WINDOW) for _ in range(shots.shots))
    rows = [torch.empty(512, 4096, dtype=torch.bfloat16) for _ in range(2)]
    guidance = Guidance(Context(rows[0], windows), Context(rows[1]), 3.0)
    latents = torch.empty(16, shots.latent_frames, 2 * shots.rows, 2 * shots.columns)
    steps = sample(experts, latents, guidance, Schedule.of(4), Clip(shots, "sparse", chunks), joint=joint)
    next(steps)
    next(steps)
    return live.peak
