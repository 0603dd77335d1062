"""The plan's arithmetic: sizes against files, formulas against layers, and what the search may never do."""

import dataclasses
import re
import struct
from importlib.resources import files
from typing import Any
from unittest import mock

import pytest
import torch
from conversions import convert, write_source
from hypothesis import given, settings, strategies as st
from live_bytes import LiveBytes
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from toy_files import toy_model
from whole_models import write_holes

from benchmarks.synthetic import real_shapes
from holo_lite.config import HOLOCINE_14B, DiTConfig
from holo_lite.eightbit.limits import Workspace
from holo_lite.errors import SettingsError
from holo_lite.model.clip import Chunks, Clip
from holo_lite.plan.cards import find_card
from holo_lite.plan.choose import choose_profile
from holo_lite.plan.encoding import attention, linears, operations
from holo_lite.plan.fit import make_plan
from holo_lite.plan.machine import UNKNOWN, Machine, machine_with
from holo_lite.plan.nearest import largest, longest, longest_in_shots, resized, stretched, with_layout
from holo_lite.plan.opened import folder_sizes
from holo_lite.plan.phases import UNCUT, WORKSPACE, Arithmetic, ClipRequest, granted
from holo_lite.plan.profile import GIB, MIB, find_profile, shipped_profiles
from holo_lite.plan.released import released_sizes
from holo_lite.plan.search import RING, Problem
from holo_lite.plan.waves import useful_share, whole_waves
from holo_lite.story.shots import ShotLayout, even_cuts
from holo_lite.text.encoder import _build
from holo_lite.text.encoder_sizes import UMT5_XXL, EncoderSizes
from holo_lite.weights.folder import open_folder
from holo_lite.weights.manifest import read_manifest
from holo_lite.weights.shard import lay_out
from quantize.inputs import plan_conversion
from quantize.recipe import Recipe

SCHEMES = ("bf16", "int8", "nf4", "qint4")
SIZES = {scheme: released_sizes(scheme) for scheme in SCHEMES}
CPU = torch.device("cpu")


def clip(frames=241, shots=5, height=480, width=832, **said):
    return ClipRequest(ShotLayout.from_frames(frames, even_cuts(frames, shots), height, width), **said)


FIVE, ONE, MINUTE = clip(), clip(shots=1), clip(961, 16)
CARDS = [profile for profile in shipped_profiles() if profile.device == "cuda"]
by_name = pytest.mark.parametrize("profile", CARDS, ids=lambda profile: profile.name)


def size_of(chunks):
    return chunks.attention, chunks.feed_forward


def preferred(profile):
    return SIZES[profile.schemes[0]]


# --- sizes -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The released files at their real size, made of holes."""
    folder = tmp_path_factory.mktemp("released")
    for noise in ("high_noise", "low_noise"):
        write_holes(folder / f"sparse_{noise}.safetensors", real_shapes("dit_14b"))
    write_holes(folder / "models_t5_umt5-xxl-enc-bf16.safetensors", real_shapes("umt5_xxl_encoder"))
    write_holes(folder / "Wan2.1_VAE.safetensors", real_shapes("wan21_vae"))
    (folder / "tokenizer.json").write_text("{}")
    return open_folder(folder)


def test_the_released_files_have_the_sizes_the_architecture_gives(released):
    assert folder_sizes(released) == SIZES["bf16"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_conversion_would_have_the_planned_sizes(released, scheme, tmp_path):
    components = plan_conversion(released, tmp_path / "out", Recipe(scheme), device=CPU).components
    found = {component.role: component for component in components}
    for role, stack in (
        ("high_noise", SIZES[scheme].high_noise),
        ("low_noise", SIZES[scheme].low_noise),
        ("text_encoder", SIZES[scheme].text),
    ):
        shards = {shard.block: lay_out(shard.specs) for shard in found[role].shards}
        data: dict[Any, int] = {block: layout.nbytes - len(layout.header) for block, layout in shards.items()}
        rest = data.pop(None)
        assert tuple(data[block] for block in sorted(data)) == stack.blocks
        if role != "text_encoder":  # there the rest holds the token embedding, which stays on the host
            assert 0 <= rest - stack.rest < 4096


def test_the_sizes_of_section_8():
    blocks = {scheme: sizes.slot for scheme, sizes in SIZES.items()}
    assert blocks["bf16"] == pytest.approx(0.70e9, rel=0.01)
    assert blocks["int8"] == pytest.approx(0.35e9, rel=0.01)
    assert blocks["nf4"] == pytest.approx(0.18e9, rel=0.01)
    assert SIZES["bf16"].high_noise.total + SIZES["bf16"].high_noise.rest == pytest.approx(28.6e9, rel=0.01)


@pytest.mark.parametrize("scheme", ["int8", "nf4"])
def test_a_converted_folder_gives_what_its_files_hold(tmp_path, scheme):
    convert(write_source(tmp_path / "source"), tmp_path / "out", scheme)
    sizes = folder_sizes(open_folder(tmp_path / "out"))
    manifest = read_manifest(tmp_path / "out")
    assert sizes.scheme == scheme
    for role, stack in (("high_noise", sizes.high_noise), ("text_encoder", sizes.text)):
        shards = [shard for shard in manifest.components[role].shards if shard.block is not None]
        assert stack.blocks == tuple(data_bytes(tmp_path / "out" / shard.file) for shard in shards)
    config = sizes.config
    assert sizes.high_noise.dense("ffn") == 2 * config.dim * config.ffn_dim
    assert sizes.high_noise.dense("self_attn") == 4 * config.dim**2


def data_bytes(path):
    with path.open("rb") as file:
        (header,) = struct.unpack("<Q", file.read(8))
    return path.stat().st_size - 8 - header


def test_the_toy_as_it_is(cache):
    sizes = folder_sizes(open_folder(toy_model(cache)))
    assert (sizes.scheme, sizes.bytes_per_number) == ("fp32", 4)
    assert sizes.high_noise.dense() == 0
    assert len(sizes.high_noise.blocks) == sizes.config.num_layers


# --- formulas against layers -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    "sizes",
    [
        UMT5_XXL,
        EncoderSizes(1000, 256, 9000, 16, 4, 2, 32),
        EncoderSizes(1000, 256, 320, 16, 8, 2, 32),
        EncoderSizes(1000, 64, 96, 16, 2, 2, 32),
    ],
)
def test_reading_costs_what_its_layers_do(sizes, dtype):
    """As a CPU, and as a card, attends: without the scores as a whole, which tensors on meta would have."""
    module = _build(dataclasses.replace(sizes, layers=2), {}).to(dtype).requires_grad_(False)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        module.to_empty(device="cpu")
        rows = torch.empty(1, 512, sizes.d_model, dtype=dtype)
        with LiveBytes() as live:
            live.ignore(rows)
            module(inputs_embeds=rows)
    planned = max(attention(sizes, dtype.itemsize), linears(sizes, dtype.itemsize))
    assert 0.99 * planned <= live.peak <= planned


@pytest.mark.parametrize("sizes", [UMT5_XXL, EncoderSizes(1000, 256, 9000, 16, 4, 2, 32)])
def test_reading_takes_the_operations_its_layers_do(sizes):
    module = _build(dataclasses.replace(sizes, layers=2), {}).requires_grad_(False)
    rows = torch.empty(1, 512, sizes.d_model, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(inputs_embeds=rows)
    assert operations(dataclasses.replace(sizes, layers=2)) == counter.get_total_flops()


def test_an_experts_peak_is_the_sum_of_its_parts():
    """By hand, for 241 frames in five shots on a card, one branch at a time, chunks of 8192."""
    sizes = SIZES["nf4"]
    sums = Arithmetic(sizes, FIVE, "cuda", 2)
    d, tokens, rows = 5120, 95160, (13 + 5) * 1560
    latents = 95160 * 256
    self_attention = 2 * rows * d * 2 + 8192 * (d * 2 + 4 * d) + 7 * 1560 * 4 * 128 + 4 * d * d * 2
    expected = (
        444 * MIB  # the rest of the weights, 443.9
        + 2 * 174 * MIB  # slots for blocks of 173.05
        + WORKSPACE
        + UNCUT
        + tokens * d * 2
        + 2 * 512 * (4096 + d) * 2
        + 5 * latents
        + (61 + 30 + 52) * 128 * 4
        + 14 * d * 2
        + self_attention
    )
    assert sums.denoise(sizes.high_noise, Chunks(), 2, joint=False) == expected
    joint = sums.denoise(sizes.high_noise, Chunks(), 2, joint=True)
    assert joint - expected == tokens * d * 2 - latents


def test_what_an_attention_kernel_holds_counts_in_self_attention():
    """By hand, of one shot: beside queries and their results, bytes for the queries and for all keys."""
    sizes, d, rows = SIZES["nf4"], 5120, (61 + 1) * 1560
    held, plain = (
        Arithmetic(each, ONE, "cuda", 2).denoising(each.high_noise, Chunks(), 2, joint=True)
        for each in (dataclasses.replace(sizes, workspace=Workspace(queries=2, keys=6)), sizes)
    )
    assert held["working memory of a layer"] == 2 * rows * d * 2 + 8192 * d * (2 * 2 + 2) + 6 * rows * d
    assert plain["working memory of a layer"] == 2 * rows * d * 2 + 8192 * (d * 2 + 4 * d) + 7 * 1560 * 4 * 128
    assert {**held, "working memory of a layer": 0} == {**plain, "working memory of a layer": 0}


@pytest.mark.parametrize(
    ("nbytes", "on_a_card"), [(5 * MIB + 1, 5 * MIB + 1), (10 * MIB, 10 * MIB), (10 * MIB + 1, 12 * MIB)]
)
def test_a_card_gives_large_buffers_in_whole_segments(nbytes, on_a_card):
    assert granted(nbytes, "cuda") == on_a_card
    assert granted(nbytes, "cpu") == nbytes


def test_keys_and_values_are_there_while_the_weights_of_small_chunks_are_unpacked():
    """By hand: they and the two tensors of a slice are more than chunks of 1024 tokens need."""
    sizes, d, rows = SIZES["nf4"], 5120, (13 + 5) * 1560
    found = Arithmetic(sizes, FIVE, "cuda", 2).denoising(sizes.high_noise, Chunks(1024, 512), 2, joint=True)
    assert found["working memory of a layer"] == 2 * rows * d * 2 + 8 * 2**23
    assert found["its unpacked weights"] == 4 * d * d * 2


def test_on_a_cpu_the_ring_is_the_same_memory():
    card, main = (Arithmetic(SIZES["nf4"], FIVE, device, 2) for device in ("cuda", "cpu"))
    stack = SIZES["nf4"].high_noise
    more = [sums.denoise(stack, Chunks(), 2, joint=True) for sums in (main, card)]
    filled = 2 * (174 * MIB - stack.slot) + 444 * MIB - stack.rest  # the card's last segments
    assert more[0] - more[1] == 2 * stack.slot - WORKSPACE - UNCUT - filled
    assert main.decode(None) > 1.9 * card.decode(None)  # in fp32


# --- targets ---------------------------------------------------------------------------------------


@by_name
@pytest.mark.parametrize("request_", [FIVE, ONE], ids=["five shots", "one shot"])
def test_every_card_runs_the_trained_length_and_uses_its_budget(profile, request_):
    sizes = preferred(profile)
    plan = make_plan(profile, sizes, request_)
    assert max(plan.peak.values()) * (100 + profile.spare_percent) <= plan.budget * 100
    assert plan.budget == profile.card - GIB
    used = max(plan.high_noise.peak, plan.low_noise.peak)
    assert used >= 0.85 * plan.budget or plan.resident == plan.blocks
    assert size_of(plan.chunks) == size_of(Chunks())
    assert plan.tile is None


@pytest.mark.parametrize("scheme", ["nf4", "int8"])
@pytest.mark.parametrize("request_", [FIVE, ONE], ids=["five shots", "one shot"])
def test_without_resident_blocks_four_and_a_half_gibibytes_do(scheme, request_):
    assert max(Problem(CARDS[0], SIZES[scheme], request_).least().values()) <= 4.5 * GIB


def test_a_minute_in_sixteen_shots_fits_8_gb():
    plan = make_plan(find_profile("8gb"), SIZES["nf4"], MINUTE)
    assert not plan.joint
    assert plan.peak["high_noise"] <= 7 * GIB


def test_decoding_fits_every_card_and_untiled_from_8_gb():
    for profile in shipped_profiles():
        machine = Machine(ram=16 * GIB, ram_free=14 * GIB)
        plan = make_plan(profile, preferred(profile), FIVE, machine)
        assert plan.tile is None or profile.card < 8 * GIB


# --- chunks that are whole waves of a card ---------------------------------------------------------


def on_card(name, request_, **changes):
    """The plan for a known card, all of it free, by the profile that suits it, with some of its facts changed."""
    machine = dataclasses.replace(machine_with(find_card(name)), **changes)
    profile, _ = choose_profile(machine)
    return make_plan(profile, preferred(profile), request_, machine)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("RTX 3060", 7168),
        ("RTX 4060", 7680),
        ("RTX 3090", 5248),
        ("RTX 4090", 8192),
        ("H200", 8448),
        ("RTX 5090", 10880),
    ],
)
def test_chunks_are_whole_waves_of_the_card(name, tokens):
    plan, without = on_card(name, FIVE), on_card(name, FIVE, multiprocessors=None)
    assert size_of(plan.chunks) == (tokens, tokens)
    assert size_of(without.chunks) == size_of(Chunks())
    assert max(plan.peak.values()) * 105 <= plan.budget * 100
    assert plan.high_noise.streamed <= without.high_noise.streamed, "here they cost no resident block"


@pytest.mark.parametrize(
    ("processors", "before", "after"), [(82, 96.5, 99.0), (128, 98.2, 98.7), (132, 95.6, 98.1), (170, 92.9, 97.9)]
)
def test_the_share_of_a_card_that_chunks_use(processors, before, after):
    """Counted apart from this code for 241 frames in five shots, in percent.

    A prompt meets a shot of 18,720 or 20,280 tokens at once. In chunks of 8192, as in self-attention, it would
    be 96.2 and 92.4 where it is 96.5 and 92.9; chunks that are whole waves lose nothing by either.
    """
    shares = [
        useful_share(processors, HOLOCINE_14B, Clip(FIVE.layout, chunks=chunks))
        for chunks in (Chunks(), whole_waves(processors))
    ]
    assert [round(100 * share, 1) for share in shares] == [before, after]


def test_a_profile_that_says_its_own_chunks_means_them():
    machine = machine_with(find_card("RTX 5090"))
    own = dataclasses.replace(find_profile("32gb"), largest=Chunks(4096, 4096))
    assert size_of(make_plan(own, SIZES["nf4"], FIVE, machine).chunks) == (4096, 4096)


def test_whole_waves_that_win_less_than_a_block_are_left():
    """A model of few blocks, each of them a large part of what is read: no share of the time is worth one."""
    machine = machine_with(find_card("RTX 5090"))
    problem = Problem(find_profile("32gb"), SIZES["nf4"], FIVE, machine)
    assert problem.rungs[0] == Chunks(10880, 10880)
    few = dataclasses.replace(SIZES["nf4"].high_noise, blocks=SIZES["nf4"].high_noise.blocks[:10])
    sizes = dataclasses.replace(SIZES["nf4"], high_noise=few, low_noise=few)
    assert dataclasses.replace(problem, sizes=sizes).rungs[0] == Chunks()


def test_where_whole_waves_do_not_fit_the_profiles_chunks_do():
    """From one branch's least memory on, a little more each time. The smallest chunks save nothing: unpacking does
    not fit in what they would leave."""
    small, machine = find_profile("6gb"), machine_with(find_card("RTX 5090"))
    least = Problem(small, SIZES["nf4"], ONE).least()["high_noise"] * (100 + small.spare_percent) // 100 + GIB
    rooms = [dataclasses.replace(small, card=least + step * 2**24) for step in range(1, 40)]
    found = [size_of(make_plan(room, SIZES["nf4"], ONE, machine).chunks) for room in rooms]
    assert list(dict.fromkeys(found)) == [*map(size_of, small.rungs[-2::-1]), (10880, 10880)]


# --- what the search may never do ------------------------------------------------------------------

some_clips = st.builds(
    lambda latents, shots, rows, columns, attention, guided: ClipRequest(
        ShotLayout(tuple(i * latents // shots for i in range(shots)), latents, rows, columns), attention, guided
    ),
    st.integers(24, 400),
    st.integers(1, 24),
    st.integers(8, 60),
    st.integers(8, 60),
    st.sampled_from(["sparse", "full"]),
    st.booleans(),
)
some_profiles = st.builds(
    lambda profile, card, cfg, slots, tiling: dataclasses.replace(
        profile, card=card, cfg=cfg, slots=slots, tiling=tiling
    ),
    st.sampled_from(CARDS),
    st.integers(3 * GIB, 80 * GIB),
    st.sampled_from(["auto", "joint", "sequential"]),
    st.integers(2, 3),
    st.sampled_from(["auto", "never", "always"]),
)
some_cards = st.builds(lambda count: Machine(multiprocessors=count), st.none() | st.integers(10, 192))
IN_FP8 = dataclasses.replace(released_sizes("qfloat8"), linear="fp8")
some_sizes = st.sampled_from([*(SIZES[scheme] for scheme in ("nf4", "int8", "bf16")), IN_FP8])


def planned(profile, sizes, request, machine=UNKNOWN):
    try:
        return make_plan(profile, sizes, request, machine)
    except SettingsError:
        return None


@settings(max_examples=150, deadline=None)
@given(some_profiles, some_sizes, some_clips, st.integers(0, 90))
def test_no_phase_exceeds_the_budget_or_what_is_free(profile, sizes, request_, free):
    machine = Machine("a card", 80 * GIB, free * GIB, 64 * GIB, 60 * GIB, 10 + 2 * free)
    plan = planned(profile, sizes, request_, machine)
    if plan is not None:
        assert plan.budget <= min(profile.card - profile.headroom, machine.free - profile.context)
        assert max(plan.peak.values()) <= plan.budget
        assert plan.high_noise.pinned <= max(profile.pinned, 2 * sizes.slot)
        assert 0 <= plan.high_noise.from_disk <= plan.high_noise.streamed


@settings(max_examples=100, deadline=None)
@given(some_profiles, some_sizes, some_clips, some_cards)
def test_a_shot_s_inputs_are_held_where_there_is_room_beside_all_that_a_step_uses(profile, sizes, request_, card):
    """Blocks of the expert that comes next make way for it, no more of them than must."""
    problem = Problem(profile, sizes, request_, card)
    if not problem.fits():
        return
    way, plan = problem.way(), make_plan(profile, sizes, request_, card)
    assert dataclasses.replace(plan.chunks, holding=False) == way.chunks
    assert (plan.joint, plan.resident) == (way.joint, way.resident)

    def unheld(others):
        """The plan with so many blocks of the other expert, and no inputs held."""
        chosen = dataclasses.replace(way, resident_other=others)
        with mock.patch.object(Problem, "with_inputs_held", return_value=chosen):
            return make_plan(profile, sizes, request_, card)

    chunks = dataclasses.replace(way.chunks, holding=True)
    more: dict[str, int] = {
        name: problem.arithmetic.denoise(stack, chunks, RING, joint=way.joint)
        - problem.arithmetic.denoise(stack, way.chunks, RING, joint=way.joint)
        for name, stack in problem.experts.items()
    }

    def room(others):
        return all(unheld(others).peak[name] + nbytes <= problem.room for name, nbytes in more.items())

    assert plan.chunks.holding == (room(0) and request_.attention == "sparse")
    without = unheld(plan.resident_other)
    if plan.chunks.holding:
        assert plan.resident_other == way.resident_other or not room(plan.resident_other + 1)
        assert all(peak == without.peak[name] + more.get(name, 0) for name, peak in plan.peak.items())
    else:
        assert plan == without
        assert plan.resident_other == way.resident_other


@settings(max_examples=150, deadline=None)
@given(some_profiles, some_sizes, some_clips, st.integers(1, 8 * GIB), some_cards)
def test_more_budget_is_never_worse(profile, sizes, request_, more, card):
    small = planned(profile, sizes, request_, card)
    large = planned(dataclasses.replace(profile, card=profile.card + more), sizes, request_, card)
    if small is None:
        return
    assert large is not None
    assert size_of(large.chunks) >= size_of(small.chunks)
    if size_of(large.chunks) == size_of(small.chunks):
        assert large.high_noise.streamed <= small.high_noise.streamed
    if large.joint == small.joint:
        assert (large.resident, large.resident_other) >= (small.resident, small.resident_other)
    if small.tile is None:
        assert large.tile is None


@settings(max_examples=100, deadline=None)
@given(some_profiles, some_sizes, some_clips, st.integers(1, 200))
def test_a_longer_or_larger_clip_never_needs_less(profile, sizes, request_, more):
    problem = Problem(profile, sizes, request_)
    longer = with_layout(problem, stretched(request_.layout, request_.layout.latent_frames + more))
    larger = with_layout(problem, resized(request_.layout, request_.layout.rows + more % 40))
    for other in (longer, larger):
        for phase, need in problem.least().items():
            assert other.least()[phase] >= need


@settings(max_examples=60, deadline=None)
@given(some_profiles, some_sizes, some_clips)
def test_what_is_said_to_fit_fits_and_what_is_beyond_does_not(profile, sizes, request_):
    problem = Problem(profile, sizes, request_)
    for found, beyond in (
        (longest(problem), lambda layout: stretched(layout, layout.latent_frames + 1)),
        (longest_in_shots(problem, 13), None),
        (largest(problem), lambda layout: resized(request_.layout, layout.rows + 1)),
    ):
        if found is not None:
            assert make_plan(profile, sizes, found)
            widest = 256 * request_.layout.rows // max(request_.layout.rows, request_.layout.columns)
            at_the_end = found.frames >= 14_401 or found.layout.rows >= widest
            if beyond is not None and not at_the_end:
                assert not with_layout(problem, beyond(found.layout)).fits()


def test_twice_as_many_shots_are_asked_for_twice_as_often(monkeypatch):
    """And not four or eight times: the longest clip in shots of a second has hundreds, and each is tried whole."""
    asked, span = [], ShotLayout.token_span

    def counted(layout, shot):
        asked.append(shot)
        return span(layout, shot)

    monkeypatch.setattr(ShotLayout, "token_span", counted)
    counts = []
    for shots in (100, 200):
        asked.clear()
        request = ClipRequest(ShotLayout(tuple(range(0, 4 * shots, 4)), 4 * shots, 8, 8))
        assert planned(find_profile("24gb"), SIZES["nf4"], request)
        counts.append(len(asked))
    assert 0 < counts[1] <= 2.1 * counts[0]


@settings(max_examples=100, deadline=None)
@given(some_clips, st.integers(24, 500))
def test_stretched_shots_keep_their_order_and_number(request_, frames):
    layout = stretched(request_.layout, frames)
    assert (layout.shots, layout.latent_frames) == (request_.layout.shots, frames)


# --- refusals --------------------------------------------------------------------------------------


def test_a_refusal_names_what_fits():
    with pytest.raises(SettingsError) as caught:
        make_plan(find_profile("6gb"), SIZES["nf4"], MINUTE)
    said = str(caught.value)
    assert said.startswith("961 frames at 832×480 need 6.07 GiB for denoising; profile 6gb gives 4.72 GiB here; ")
    frames, size = said.partition("what fits: ")[2].split(", or ")[:2]
    assert said.endswith("a free card for the profile 8gb")
    shorter = with_layout(
        Problem(find_profile("6gb"), SIZES["nf4"], MINUTE),
        stretched(MINUTE.layout, (int(frames.split()[0]) - 1) // 4 + 1),
    )
    width, height = map(int, re.fullmatch(r"--width (\d+) --height (\d+)", size).groups())
    assert shorter.fits()
    assert make_plan(find_profile("6gb"), SIZES["nf4"], clip(961, 16, height, width))
    assert make_plan(find_profile("8gb"), SIZES["nf4"], MINUTE)


def test_a_machine_without_room_is_told_so():
    full = Machine("a card", 8 * GIB, GIB, 16 * GIB, GIB)
    with pytest.raises(SettingsError, match="a free card for the profile 8gb"):
        make_plan(find_profile("8gb"), SIZES["nf4"], FIVE, full)
    with pytest.raises(SettingsError, match="gives 0 bytes here; what fits: a free card for the profile 6gb"):
        make_plan(
            dataclasses.replace(CARDS[-1], card=2 * GIB + 1), SIZES["nf4"], FIVE, dataclasses.replace(full, free=0)
        )


# --- a small model ---------------------------------------------------------------------------------


def test_unlike_experts_and_whole_ones():
    small = released_sizes("nf4", DiTConfig(256, 2, 512, 4), EncoderSizes(100, 128, 256, 32, 4, 2, 32))
    plan = make_plan(CARDS[0], small, clip(41, 2, 64, 64))
    assert (plan.resident, plan.resident_other, plan.blocks) == (4, 4, 4)
    assert plan.high_noise.streamed == plan.high_noise.from_disk == 0
    assert plan.pinned_cache_blocks == 0
    heavier = dataclasses.replace(small.low_noise, blocks=tuple(2 * GIB for _ in range(4)))
    plan = make_plan(CARDS[2], dataclasses.replace(small, low_noise=heavier), clip(41, 2, 64, 64))
    assert plan.resident < 4
    assert plan.resident_other == 0
    assert plan.low_noise.streamed > plan.high_noise.streamed


def test_without_guidance_there_is_one_branch():
    guided, alone = (make_plan(find_profile("8gb"), SIZES["nf4"], clip(guided=g)) for g in (True, False))
    assert alone.joint
    assert alone.resident > guided.resident


def test_half_of_the_main_memory_is_the_most_that_is_pinned():
    little = Machine("a card", 8 * GIB, 8 * GIB, 8 * GIB, 8 * GIB)
    plan = make_plan(find_profile("8gb"), SIZES["nf4"], FIVE, little)
    assert 2 * SIZES["nf4"].slot < plan.high_noise.pinned <= 4 * GIB
    assert plan.stride is None
    assert make_plan(dataclasses.replace(find_profile("8gb"), tiling="always"), SIZES["nf4"], FIVE).stride == (
        15,
        26,
    )


def test_on_windows_and_wsl_only_the_ring_is_pinned_unless_a_persons_profile_says_otherwise(tmp_path):
    """There, what is pinned is taken from the card, which the plan fills."""
    machine = Machine("a card", 8 * GIB, 8 * GIB, 64 * GIB, 60 * GIB)
    there, shipped = dataclasses.replace(machine, pins_little=True), find_profile("8gb")
    plan = make_plan(shipped, SIZES["nf4"], FIVE, there)
    assert plan.pinned_cache_blocks == 0
    assert plan.high_noise.pinned == 2 * SIZES["nf4"].slot
    assert plan.high_noise.from_disk == plan.high_noise.streamed
    cached = make_plan(shipped, SIZES["nf4"], FIVE, machine)
    assert cached.pinned_cache_blocks == 22
    assert plan.resident == cached.resident
    mine = tmp_path / "mine.toml"
    mine.write_text((files("profiles") / "8gb.toml").read_text())
    assert make_plan(find_profile(str(mine)), SIZES["nf4"], FIVE, there).pinned_cache_blocks == 22


def test_what_nothing_can_run_is_refused_without_advice_that_is_wrong():
    endless = ClipRequest(ShotLayout((0,), 3601, 256, 256), "full")
    with pytest.raises(
        SettingsError, match=r"in proportion, or --width \d+ --height \d+$|nothing close to it fits$"
    ):
        make_plan(CARDS[-1], SIZES["bf16"], endless)


def test_the_default_model_is_the_released_one():
    assert SIZES["nf4"].config == HOLOCINE_14B
