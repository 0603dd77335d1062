"""What a run takes, counted tensor by tensor, against what its plan says: never more, and at least 85 % of it.

The real runtime runs the plan: experts streamed through slots and ring with resident blocks, the text encoder,
the decoder. On a CPU every tensor alive is counted (`live_bytes`): there slots, ring and resident blocks are plain
memory like all else. On a card its allocator counts, and the ring lies on the host.

Clips have as many frames and shots as real ones and a few tokens a frame, so that streams, key rows, latents and
weights are of one order and none hides behind another. Nothing is subtracted from any plan: the terms that only a
card has (workspaces of its libraries) are no part of a plan for a CPU, and unpacking is counted by the size of the
weights it unpacks. What is added is what a CPU need not allocate: weights that it uses where they are mapped.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from conversions import CPU, convert, encoder_weights, vae_weights
from live_bytes import LiveBytes
from safetensors.torch import save_file
from small_model import random_model
from thorough import alike

from holo_lite.config import DiTConfig
from holo_lite.eightbit.limits import Workspace
from holo_lite.events import StepDone
from holo_lite.film.encode import encode_frames
from holo_lite.film.vae_encoder import load_vae_encoder
from holo_lite.kernels.fused import pick_ops
from holo_lite.kernels.linear_choice import refusal
from holo_lite.model.clip import Chunks, Clip
from holo_lite.model.compute import PLAIN, Compute
from holo_lite.model.equations import attention
from holo_lite.plan.fit import make_plan
from holo_lite.plan.machine import UNKNOWN, Machine
from holo_lite.plan.opened import folder_sizes
from holo_lite.plan.phases import WORKSPACE, ClipRequest
from holo_lite.plan.profile import find_profile
from holo_lite.plan.search import Problem, held_bytes
from holo_lite.render.decode_phase import FrameDecoder
from holo_lite.render.denoise_phase import Denoiser
from holo_lite.render.device_memory import clear
from holo_lite.sampling.sampler import Context, Guidance, initial_noise
from holo_lite.settings import RunSettings
from holo_lite.story.shots import ShotLayout, even_cuts
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.streaming.experts import ExpertSetup
from holo_lite.streaming.streamer import Streamer
from holo_lite.text.encoder import TextEncoder
from holo_lite.weights.folder import open_folder

BF16, FP32 = torch.bfloat16, torch.float32
SMALL = DiTConfig(256, 2, 640, 6, text_dim=64, freq_dim=64)
LARGE = DiTConfig(1024, 8, 2816, 6, text_dim=64, freq_dim=64)
CARD = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card: run on one")
MODELS = {  # what weights are stored as, what they were before, what is computed in
    "plain": (None, FP32, FP32),
    "int8": ("int8", BF16, BF16),
    "qfloat8": ("qfloat8", BF16, BF16),
    "nf4": ("nf4", BF16, BF16),
    "nf4 in fp32": ("nf4", BF16, FP32),
    "bf16 in fp32": (None, BF16, FP32),
    "fp32 in bf16": (None, FP32, BF16),
}


@dataclass(frozen=True)
class Case:
    """A clip and how it is run. `room`: how many blocks the budget leaves room for."""

    frames: int
    cuts: tuple[int, ...]
    height: int
    width: int
    room: int
    cfg: str = "joint"

    @property
    def layout(self):
        return ShotLayout.from_frames(self.frames, self.cuts, self.height, self.width)

    @property
    def settings(self):
        shots = tuple(Shot("a") for _ in range(len(self.cuts) + 1))
        return RunSettings(
            storyboard=Storyboard("G", shots),
            frames=self.frames,
            cuts=self.cuts,
            height=self.height,
            width=self.width,
            fps=15.0,
            steps=2,  # one of each expert
            cfg=3.0,
            seed=1,
            negative="",
            attention="sparse",
            dtype="fp32",
            device="cpu",
            model="test",
        )


def case(frames, shots, height, width, room, cfg="joint"):
    return Case(frames, even_cuts(frames, shots), height, width, room, cfg)


LAYOUTS = {
    "many short shots": case(241, 20, 64, 80, 0),
    "one long shot": case(241, 1, 64, 80, 3),
    "200 and 41 frames": Case(241, (201,), 64, 80, 9, "joint"),
    "200 and 41 frames, one branch at a time": Case(241, (201,), 64, 80, 2, "sequential"),
    "33 frames": case(33, 2, 96, 160, 1),
    "33 frames, one branch at a time": case(33, 2, 96, 160, 12, "sequential"),
    "961 frames in 16 shots": case(961, 16, 32, 48, 1),
    "961 frames as one shot, one branch at a time": case(961, 1, 32, 48, 0, "sequential"),
}


def write_model(folder, config, dtype):
    folder.mkdir()
    for seed, noise in enumerate(("high_noise", "low_noise")):
        weights = {
            name: tensor.contiguous() for name, tensor in random_model(config, seed, dtype).state_dict().items()
        }
        save_file(weights, folder / f"sparse_{noise}.safetensors")
    encoder = {name: tensor.to(dtype) for name, tensor in encoder_weights().items()}
    save_file(encoder, folder / "models_t5_umt5-xxl-enc-bf16.safetensors")
    save_file(vae_weights(), folder / "Wan2.1_VAE.safetensors")
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Model folders by name and sizes, each made once."""
    made, place = {}, tmp_path_factory.mktemp("models")

    def get(name, config=SMALL):
        scheme, stored, computed = MODELS[name]
        key = f"{scheme}-{stored}-{config.dim}"
        if key not in made:
            source = write_model(place / f"source-{key}", config, stored)
            if scheme:
                convert(source, place / key, scheme)
            made[key] = open_folder(place / key if scheme else source)
        return made[key], computed

    return get


def profile_of(case, device="cpu"):
    """Chunks so small that a clip has many: else it would be one chunk, and the formula for chunks not tested."""
    found = find_profile("cpu" if device == "cpu" else "8gb")
    chunks = (Chunks(256, 128), Chunks(128, 64)) if device == "cpu" else (Chunks(4096, 2048), Chunks(2048, 1024))
    return replace(
        found, desktop=0, context=0, spare_percent=0, cfg=case.cfg, largest=chunks[0], smallest=chunks[1]
    )


def plan_of(folder, case, computed, device="cpu", adapters=None, **how):
    """A plan for a machine with room for so many blocks of the first expert, and then of the other."""
    sizes, request = folder_sizes(folder, computed.itemsize, adapters), ClipRequest(case.layout)
    sizes = replace(sizes, **how)
    profile = profile_of(case, device)
    sums, stack = Problem(profile, sizes, request, UNKNOWN).arithmetic, sizes.high_noise
    blocks = len(stack.blocks)
    held = held_bytes(stack, min(case.room, blocks), device)
    held += held_bytes(sizes.low_noise, max(0, case.room - blocks), device)
    base = sums.denoise(stack, profile.largest, 2, joint=case.cfg == "joint")
    room = max(base + held, sums.text(2), sums.decode(None))
    machine = Machine("this", room, room, 10**12, room) if device != "cpu" else Machine(ram_free=room)
    return make_plan(replace(profile, card=room if device != "cpu" else 0), sizes, request, machine)


def denoise(folder, case, computed, plan, device, adapters=None, compute=PLAIN):
    """Run both steps; gives the peak of each phase as whoever counts finds it when the step is done."""
    rows = [torch.randn(512, 64).to(device, computed) for _ in range(2)]
    guidance = Guidance(Context(rows[0]), Context(rows[1]), 3.0)
    del rows
    latents = initial_noise(Clip(case.layout), 1).to(device)
    setup = ExpertSetup(folder.experts, computed, device, compute, adapters or {})
    run = Denoiser(setup, case.settings, guidance, latents).run(plan)
    del latents
    for event in run:
        assert isinstance(event, StepDone), event
        yield


def holds(measured, planned):
    assert 0.85 * planned <= measured <= planned, f"{measured} of {planned}: {measured / planned:.3f}"


# Every layout as nf4, whose weights are held, unpacked and freed; the others as a clip of each way of guidance.
IN_ALL_FORMS = ("one long shot", "33 frames, one branch at a time")
DENOISED = [(layout, "nf4") for layout in LAYOUTS]
DENOISED += [
    (layout, name) if layout in IN_ALL_FORMS else alike(layout, name)
    for layout in LAYOUTS
    for name in ("plain", "int8")
]


@pytest.mark.parametrize(("layout", "name"), DENOISED)
def test_denoising_takes_what_is_planned(model, layout, name):
    case, (folder, computed) = LAYOUTS[layout], model(name)
    plan = plan_of(folder, case, computed)
    assert plan.joint == (case.cfg == "joint")
    with LiveBytes(without_meta=True, computing=False) as live:
        run = denoise(folder, case, computed, plan, CPU)
        next(run)
        high, live.peak = live.peak, live.now
        next(run)
        assert next(run, None) is None
    holds(high, plan.high_noise.peak)
    assert live.peak <= max(plan.high_noise.peak, plan.low_noise.peak)


IN_BOTH_WAYS = [("33 frames", "nf4", "plain"), ("33 frames", "int8", "int8")]


@pytest.mark.parametrize(("layout", "name", "linear"), IN_BOTH_WAYS)
def test_as_many_bytes_are_counted_as_if_all_were_computed(model, layout, name, linear):
    """The other tests leave out what takes the time, which must not change what is held."""
    case, (folder, computed) = LAYOUTS[layout], model(name)
    plan, peaks = plan_of(folder, case, computed, linear=linear), []
    for computing in (True, False):
        with LiveBytes(without_meta=True, computing=computing) as live:
            run = denoise(folder, case, computed, plan, CPU, compute=Compute(linear=linear))
            peaks.append([(live.peak, live.now) for _ in run])
    assert peaks[0] == peaks[1]
    assert len(peaks[0]) == 2


def test_as_many_bytes_of_pictures_are_counted_as_if_all_were_computed(model):
    folder, _ = model("plain")
    latents, frames = (
        initial_noise(Clip(ShotLayout((0,), 2, 4, 6)), 1),
        torch.zeros(5, 64, 96, 3, dtype=torch.uint8),
    )
    peaks = []
    for computing in (True, False):
        with LiveBytes(without_meta=True, computing=computing) as live:
            list(FrameDecoder(folder.vae, FP32, CPU).frames(latents, None))
            decoded, live.peak = live.peak, live.now
            list(encode_frames(load_vae_encoder(folder.vae, dtype=FP32, device=CPU), frames, None))
        peaks.append((decoded, live.peak))
    assert peaks[0] == peaks[1]


@pytest.mark.parametrize("name", ["nf4 in fp32", "bf16 in fp32", "fp32 in bf16"])
@pytest.mark.parametrize("room", [0, 3])
def test_weights_that_are_cast_are_planned_for(model, name, room):
    """Three times a bf16 block, if it is computed in fp32; and no block stays cast that is not in use."""
    case, (folder, computed) = replace(LAYOUTS["33 frames"], room=room), model(name)
    plan = plan_of(folder, case, computed)
    with LiveBytes(without_meta=True, computing=False) as live:
        assert len(list(denoise(folder, case, computed, plan, CPU))) == 2
    holds(live.peak, max(plan.high_noise.peak, plan.low_noise.peak))


HERE = None  # as this machine multiplies
IN_8_BITS = [  # a clip, how weights are stored, how they are multiplied, and whether the CPU has VNNI
    ("33 frames", "plain", "fp8", HERE),
    ("33 frames", "int8", "int8", True),
    ("33 frames", "int8", "int8", False),
    ("200 and 41 frames", "nf4", "int8", HERE),
    ("200 and 41 frames, one branch at a time", "qfloat8", "fp8", HERE),
]


@pytest.mark.parametrize(("layout", "name", "linear", "vnni"), IN_8_BITS)
def test_products_in_8_bits_take_what_is_planned(model, monkeypatch, layout, name, linear, vnni):
    """With what the reference needs on a CPU; weights stored in that very format take no more than they lie in.

    A CPU without VNNI first widens what it multiplies. Bytes are counted right for either kind on every machine,
    though one that has none gives wrong sums when it is made to multiply as if it had.
    """
    if vnni is not HERE:
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: vnni)
    case, (folder, computed) = LAYOUTS[layout], model(name)
    plan = plan_of(folder, case, computed, linear=linear)
    with LiveBytes(without_meta=True, computing=False) as live:
        assert len(list(denoise(folder, case, computed, plan, CPU, compute=Compute(linear=linear)))) == 2
    holds(live.peak, max(plan.high_noise.peak, plan.low_noise.peak))


@pytest.mark.parametrize("layout", ["one long shot", "961 frames as one shot, one branch at a time"])
def test_what_an_attention_kernel_holds_is_planned_for(model, layout):
    """One that holds bytes for its queries and its keys, as a library may, beside what comes of them."""
    case, (folder, computed), held = LAYOUTS[layout], model("nf4"), Workspace(queries=2, keys=6)
    plan = plan_of(folder, case, computed, workspace=held)
    counted = held.nbytes(plan.chunks.attention, Clip(case.layout).key_rows, SMALL.dim)

    def hungry(q, k, v):
        out = attention(q, k, v)
        torch.empty(held.nbytes(len(q), len(k), q[0].numel()), dtype=torch.uint8)
        return out

    with LiveBytes(without_meta=True, computing=False) as live:
        assert len(list(denoise(folder, case, computed, plan, CPU, compute=Compute(hungry)))) == 2
    holds(live.peak, max(plan.high_noise.peak, plan.low_noise.peak))
    assert live.peak > plan.high_noise.peak - counted / 2, "so little that no plan could miss it"


def test_threads_that_bring_weights_allocate_nothing(model, monkeypatch):
    """They would escape the count, and on a card an allocation stops everything."""
    taken, guard = [], Streamer._guard

    def counted(streamer, work):
        with LiveBytes() as live:
            guard(streamer, work)
        taken.append(live.peak)

    monkeypatch.setattr(Streamer, "_guard", counted)
    case, (folder, computed) = LAYOUTS["33 frames"], model("nf4")
    list(denoise(folder, case, computed, plan_of(folder, case, computed), CPU))
    assert taken == [0, 0]


@pytest.mark.parametrize("name", MODELS)
def test_reading_prompts_takes_what_is_planned(model, name):
    folder, computed = model(name)
    plan = plan_of(folder, LAYOUTS["33 frames"], computed)
    with LiveBytes(without_meta=True) as live:
        encoder = TextEncoder.open(folder.text_encoder, dtype=computed, device=CPU)
        rows = [encoder.encode([1] * 512) for _ in range(2)]
        encoder.close()
    assert len(rows) == 2
    holds(live.peak, plan.text.peak)


# One of each length: neither shots nor branches are seen by the decoder.
DECODED = ("33 frames", "one long shot", "961 frames as one shot, one branch at a time")


@pytest.mark.parametrize(
    ("layout", "tile"),
    [
        *((layout, None) for layout in DECODED),
        (DECODED[0], (8, 12)),
        *(alike(layout, (8, 12)) for layout in DECODED[1:]),
    ],
)
def test_decoding_takes_what_is_planned(model, layout, tile):
    folder, computed = model("plain")
    case = replace(LAYOUTS[layout], height=max(128, LAYOUTS[layout].height), width=192)
    sums = Problem(profile_of(case), folder_sizes(folder, computed.itemsize), ClipRequest(case.layout)).arithmetic
    with LiveBytes(without_meta=True, computing=False) as live:
        latents = initial_noise(Clip(case.layout), 1)[:, :5]
        for _ in FrameDecoder(folder.vae, FP32, CPU).frames(latents, tile):
            pass
    holds(live.peak, sums.decode(tile))


@pytest.mark.parametrize("tile", [None, (8, 12)])
def test_encoding_takes_what_is_planned(model, tile):
    folder, computed = model("plain")
    case = replace(LAYOUTS["33 frames"], height=128, width=192)
    sums = Problem(profile_of(case), folder_sizes(folder, computed.itemsize), ClipRequest(case.layout)).arithmetic
    frames = torch.zeros(17, case.height, case.width, 3, dtype=torch.uint8)
    with LiveBytes(without_meta=True, computing=False) as live:
        encoder = load_vae_encoder(folder.vae, dtype=FP32, device=CPU)
        for _ in encode_frames(encoder, frames, tile):
            pass
    holds(live.peak + sums.latents, sums.encode(tile))


LARGE_LAYOUTS = {
    "many short shots": case(241, 20, 256, 448, 0),
    "one long shot": case(241, 1, 256, 448, 3),
    "200 and 41 frames": Case(241, (201,), 256, 448, 9),
    "200 and 41 frames, one branch at a time": Case(241, (201,), 256, 448, 2, "sequential"),
    "33 frames": case(33, 2, 480, 832, 1),
    "961 frames in 16 shots": case(961, 16, 256, 448, 1),
    "961 frames as one shot, one branch at a time": case(961, 1, 256, 448, 0, "sequential"),
}


@CARD
@pytest.mark.parametrize("name", ["nf4", "int8", "fp32 in bf16"])
@pytest.mark.parametrize("layout", LARGE_LAYOUTS)
def test_a_card_holds_what_is_planned(model, layout, name):
    """The workspaces of libraries are planned whole, and may not be taken: the lower bound leaves them out."""
    case, (folder, computed) = LARGE_LAYOUTS[layout], model(name, LARGE)
    card = torch.device("cuda")
    plan = plan_of(folder, case, computed, "cuda")
    clear(card)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    assert len(list(denoise(folder, case, computed, plan, card))) == 2
    measured, planned = torch.cuda.max_memory_allocated() - before, max(plan.high_noise.peak, plan.low_noise.peak)
    assert 0.85 * (planned - WORKSPACE) <= measured <= planned


@CARD
@pytest.mark.parametrize("fuse", ["off", "on"])
@pytest.mark.parametrize("linear", ["plain", "int8", "fp8"])
@pytest.mark.parametrize("name", ["nf4", "int8"])
def test_a_card_computes_otherwise_in_what_is_planned(model, name, linear, fuse):
    """8 bits, and operations that take one pass: neither needs more, also while kernels are chosen."""
    card, case = torch.device("cuda"), LARGE_LAYOUTS["200 and 41 frames"]
    folder, computed = model(name, LARGE)
    if linear != "plain" and (reason := refusal(linear, card, computed)):
        pytest.skip(reason)
    compute = Compute(linear=linear, ops=pick_ops(fuse, card)[0])
    plan = plan_of(folder, case, computed, "cuda", linear=linear)
    clear(card)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    assert len(list(denoise(folder, case, computed, plan, card, compute=compute))) == 2
    measured, planned = torch.cuda.max_memory_allocated() - before, max(plan.high_noise.peak, plan.low_noise.peak)
    assert 0.8 * (planned - WORKSPACE) <= measured <= planned


@CARD
@pytest.mark.parametrize("tile", [None, (30, 52)])
def test_a_card_decodes_in_what_is_planned(model, tile):
    """Convolutions may take workspaces that no documentation bounds: they are held against the spare percent."""
    case, (folder, computed) = LARGE_LAYOUTS["33 frames"], model("nf4", LARGE)
    card = torch.device("cuda")
    sums = Problem(
        profile_of(case, "cuda"), folder_sizes(folder, computed.itemsize), ClipRequest(case.layout)
    ).arithmetic
    clear(card)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    latents = initial_noise(Clip(case.layout), 1).to(card)
    for _ in FrameDecoder(folder.vae, computed, card).frames(latents, tile):
        pass
    measured, planned = torch.cuda.max_memory_allocated() - before, sums.decode(tile)
    assert 0.85 * (planned - WORKSPACE) <= measured <= 1.05 * planned
