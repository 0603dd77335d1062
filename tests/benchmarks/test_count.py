"""What a block and the decoder ask of a card does not grow unseen: counted at full size, without a card.

The bounds are what today's code comes to. A change that lowers a count lowers its bound here in the same commit.
"""

import json
from functools import cache

import pytest
import torch
from click.testing import CliRunner

from benchmarks.count import command, roofline
from benchmarks.count.block import FP8, FUSED, HELD, INT8, PLAIN, clip_of, count_block
from benchmarks.count.decode import count_decode
from benchmarks.count.others import count_diffusers, count_reference
from benchmarks.count.sectors import SECTOR, moved
from benchmarks.count.tally import Tally, on_a_card
from benchmarks.speed.floor import attentions, gemms
from benchmarks.speed.scale import windows_of
from benchmarks.speed.targets import DIFFUSERS, DIFFUSERS_BEST, REFERENCE
from holo_lite.config import HOLOCINE_14B
from holo_lite.model.clip import Chunks

GB = 1e9
IN_A_BLOCK = ("self-attention", "cross-attention", "feed-forward")


@cache
def counted(frames, way):
    return count_block(clip_of(frames), way)


# --- bounds ----------------------------------------------------------------------------------------

BOUNDS = [  # frames, a way, launches next to products and attentions, and GB that they move, at most
    (33, FUSED, 132, 7.4),
    (81, FUSED, 159, 16.3),
    (241, FUSED, 329, 45.7),
    (241, INT8, 341, 43.8),
    (241, FP8, 419, 55.5),  # where the product is PyTorch's, its result is added in a pass of its own
    (33, HELD[1], 126, 7.1),
    (241, HELD[1], 299, 42.0),  # a shot's inputs are held
    (241, HELD[2], 311, 41.1),
    (33, HELD[3], 155, 8.1),
    (241, HELD[3], 365, 48.9),  # in fp8 the pass that adds makes the next layer's input, too
]
AIMED = {FUSED: (385, 47), HELD[1]: (385, 42), HELD[2]: (385, 50), HELD[3]: (385, 50)}  # at 241 frames, at most
OVER_THE_FLOOR = {"RTX 4090": 1.036, "H200": 1.038}
DECODED_BEFORE = 9912 * GB  # 241 frames with diffusers' layers, which concatenate, pad, and norm in five passes


@pytest.mark.parametrize(("frames", "way", "launches", "gigabytes"), BOUNDS)
def test_a_block_launches_and_moves_no_more_than_it_did(frames, way, launches, gigabytes):
    beside = counted(frames, way).summed(beside=True)
    assert beside.launches <= launches
    assert beside.nbytes <= gigabytes * GB


@pytest.mark.parametrize("way", AIMED, ids=lambda way: way.name)
def test_at_241_frames_a_block_moves_no_more_than_is_aimed_at(way):
    launches, gigabytes = AIMED[way]
    beside = counted(241, way).summed(beside=True)
    assert beside.launches <= launches
    assert beside.nbytes <= gigabytes * GB


def test_where_a_shot_goes_through_all_layers_its_sums_are_not_read_again():
    """Two norms a block and branch read the stream; what they make of it is written all the same."""
    clip, (fused, held) = clip_of(241), (counted(241, way) for way in (FP8, HELD[3]))
    stream, shared = (2 * tokens * HOLOCINE_14B.dim * 2 for tokens in (clip.layout.tokens, clip.shared_tokens))
    once = 3 * (stream - shared) // 2  # self-attention's input is made: read in bf16, written in 8 bits
    won = fused.summed(beside=True).nbytes - held.summed(beside=True).nbytes
    assert won == pytest.approx(2 * stream + once, rel=0.01)
    assert held.summed(kind="product").operations == fused.summed(kind="product").operations
    assert held.summed(kind="attention").operations == fused.summed(kind="attention").operations


@pytest.mark.parametrize("card", OVER_THE_FLOOR)
def test_by_its_counts_a_block_comes_as_near_to_the_floor_as_it_did(card):
    (rates,) = (each for each in roofline.CARDS if each.name == card)
    assert roofline.estimate(counted(241, FUSED), rates).over_the_floor <= OVER_THE_FLOOR[card]


def test_decoding_moves_no_more_than_it_did():
    whole = count_decode_once().whole()
    assert whole.nbytes <= 4350 * GB <= 0.7 * DECODED_BEFORE
    assert whole.operations == pytest.approx(817e12, rel=0.01)


@pytest.mark.parametrize(
    ("count", "way", "least"),
    [
        (count_reference, FUSED, REFERENCE),
        (count_diffusers, FUSED, DIFFUSERS),
        (count_diffusers, INT8, DIFFUSERS_BEST),
        (count_diffusers, FP8, DIFFUSERS_BEST),
    ],
)
@pytest.mark.parametrize("card", roofline.CARDS, ids=lambda card: card.name)
def test_by_its_counts_a_block_is_as_many_times_faster_than_others_as_is_claimed(count, way, least, card):
    theirs = roofline.estimate(counted_of(count), card)
    assert theirs.seconds >= least * roofline.estimate(counted(241, way), card, way.linear).seconds


@cache
def counted_of(count):
    return count(clip_of(241))


def test_other_ways_have_our_products_and_diffusers_attends_to_the_whole_clip():
    ours = counted(241, FUSED)
    for count in (count_reference, count_diffusers):
        assert counted_of(count).summed(kind="product").operations == ours.summed(kind="product").operations
    tokens, text, d = clip_of(241).layout.tokens, 512, HOLOCINE_14B.dim
    dense = 2 * 4 * tokens * (tokens + text) * d  # both branches
    assert counted_of(count_diffusers).summed(kind="attention").operations == dense
    attended = counted_of(count_reference).summed(kind="attention").operations
    assert 1 <= attended / ours.summed(kind="attention").operations < 1.01  # masked rows of text are computed


# --- what is counted -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [PLAIN, FUSED, INT8, FP8])
def test_the_products_and_attentions_of_the_floor_are_those_that_are_counted(way):
    """The list for the floor is made from the clip, this one from what the layers run."""
    tally, windows = counted(241, way), [windows_of(5), None]
    products = [each for each in gemms(HOLOCINE_14B, clip_of(241), windows) if each.name.startswith(IN_A_BLOCK)]
    attended = attentions(HOLOCINE_14B, clip_of(241), windows)
    layers = HOLOCINE_14B.num_layers
    made, seen = tally.summed(kind="product"), tally.summed(kind="attention")
    assert made.operations * layers == sum(each.operations for each in products)
    assert made.launches * layers == sum(each.times * len(each.rows) for each in products)
    assert seen.operations * layers == sum(each.operations for each in attended)
    assert seen.launches * layers == sum(each.times * len(each.queries) for each in attended)


def test_a_fused_block_asks_less_than_a_plain_one_of_every_kind():
    plain, fused = counted(33, PLAIN), counted(33, FUSED)
    assert fused.summed(beside=True).nbytes < plain.summed(beside=True).nbytes / 2
    assert fused.summed(beside=True).launches < plain.summed(beside=True).launches
    assert (fused.allocations, fused.dispatches) < (plain.allocations, plain.dispatches)
    assert fused.summed(kind="product") == plain.summed(kind="product")


def test_products_in_8_bits_are_as_many_and_each_input_is_quantized():
    coded, fused = counted(241, FP8), counted(241, FUSED)
    assert coded.summed(kind="product").operations == fused.summed(kind="product").operations
    assert coded.summed(kind="product").launches == fused.summed(kind="product").launches


def on_meta(*shape, dtype=torch.bfloat16):
    return torch.empty(shape, dtype=dtype, device="meta")


OPERATIONS = [  # what is done, its launches, and the bytes it reads and writes
    (lambda x: x.view(-1)[4:].t(), 0, 0, 0),
    (lambda x: x.mul_(2), 1, 4096, 4096),
    (lambda x: x + 1, 1, 4096, 4096),
    (lambda x: x.copy_(x.clone()), 2, 8192, 8192),
    (lambda x: x.fill_(1), 1, 0, 4096),
    (lambda x: x.float(), 1, 4096, 8192),
    (lambda x: torch.sub(x, x, out=x), 1, 8192, 4096),
    (lambda x: torch.cat([x, x]), 1, 8192, 8192),
    (lambda x: x[on_meta(3, dtype=torch.int64)], 1, 32 + 3 * 128, 3 * 128),
    (lambda x: x[:, 0::2] + 1, 1, 4096, 2048),
    (lambda x: torch.empty_like(x), 0, 0, 0),
    (lambda x: torch.nn.functional.conv2d(x.view(1, 8, 16, 16), on_meta(8, 8, 1, 1)), 1, 4096 + 128, 4096),
    (lambda x: torch.nn.functional.conv2d(x.view(1, 8, 16, 16), on_meta(8, 8, 1, 1), on_meta(8)), 2, 8352, 8192),
]


@pytest.mark.parametrize("place", range(len(OPERATIONS)))
def test_an_operation_is_charged_what_it_moves(place):
    done, launches, read, written = OPERATIONS[place]
    x = on_meta(32, 64)
    with on_a_card() as tally:
        done(x)
    found = tally.summed()
    assert (found.launches, found.read, found.written) == (launches, read, written)


def test_attention_is_one_launch_and_its_scores_stay_out_of_memory():
    q, k = on_meta(1, 2, 64, 16), on_meta(1, 2, 4096, 16)
    with on_a_card() as tally:
        out = torch.nn.functional.scaled_dot_product_attention(q, k, k)
    found = tally.summed(kind="attention")
    assert (out.shape, found.launches, found.operations) == (q.shape, 1, 4 * 2 * 64 * 4096 * 16)
    assert found.nbytes == 2 * q.nbytes + 2 * k.nbytes
    assert tally.allocations == 1


def test_memory_that_is_taken_counts_once_and_views_of_it_do_not():
    with on_a_card() as tally:
        x = torch.empty(4, 4, device="meta")
        x.mul_(2).view(2, 8)[1].t()
        torch.add(x, x, out=x)
        x.clone()
    assert tally.allocations == 2
    assert tally.dispatches == 7


def test_what_runs_on_the_host_is_no_launch():
    with on_a_card() as tally:
        torch.arange(9).float().mul_(2)
    assert tally.launches == []


STRIDED = [  # a shape, its strides in numbers of bf16
    ((7, 64), (64, 1)),
    ((7, 33), (64, 1)),
    ((7, 32), (64, 2)),
    ((40, 5, 32), (640, 128, 2)),
    ((64, 7), (1, 64)),
    ((5, 4), (8, 1)),
    ((9, 3), (100, 1)),
    ((3, 1, 16), (16, 5, 1)),
    ((6, 16), (0, 1)),
    ((17,), (16,)),
    ((17,), (40,)),
    ((), ()),
]


@pytest.mark.parametrize(("shape", "strides"), STRIDED)
def test_sectors_are_those_that_hold_numbers(shape, strides):
    """Against every address, looked at by itself."""
    end = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    places = torch.arange(end).as_strided(shape, strides).flatten().tolist()
    sectors = {place * 2 // SECTOR for place in places}
    assert moved(torch.empty(end, dtype=torch.bfloat16).as_strided(shape, strides)) == len(sectors) * SECTOR


def test_nothing_moves_for_an_empty_tensor():
    assert moved(torch.empty(0, 5)) == 0


# --- the roofline ----------------------------------------------------------------------------------


def test_the_roofline_adds_up_what_is_counted():
    tally = Tally()
    card = roofline.Card("RTX 4090", 128, 1e12, 2e12, 4e12, 1e9, 1e9)
    tally.charge("p", [], [], kind="product", operations=10**12)
    tally.charge("a", [], [], kind="attention", operations=10**12)
    tally.charge("other", [on_meta(16)], [on_meta(32)], count=2)
    found = roofline.estimate(tally, card)
    assert (found.floor, found.moving, found.launching) == (1.5, 96e-9, 10e-6)
    assert found.over_the_floor == pytest.approx(1 + (96e-9 + 10e-6) / 1.5)
    assert roofline.estimate(tally, card, "int8").floor == 0.75


def test_no_assumed_rate_is_above_what_the_vendor_states():
    for card in roofline.CARDS:
        assert card.attentions <= card.products <= card.vendor
        assert card.bandwidth <= card.stated


def test_chunks_that_fill_the_multiprocessors_leave_less_of_them_idle():
    for card in roofline.CARDS:
        tokens = 64 * card.multiprocessors
        fixed, filled = (
            roofline.useful_share(clip_of(241, chunks), card) for chunks in (Chunks(), Chunks(tokens, tokens))
        )
        assert 0.9 < fixed < filled < 1


def test_one_multiprocessor_is_idle_only_in_tiles_that_are_not_full():
    """1560 tokens are 13 tiles of 128 rows, the last of which is not full; those of the text all are."""
    card = roofline.Card("RTX 4090", 1, 1e12, 1e12, 1e12, 1e9, 1e9)
    assert roofline.useful_share(clip_of(1, shots=1), card) == pytest.approx(1560 / (13 * 128), rel=0.01)


# --- the command -----------------------------------------------------------------------------------


def test_the_command_shows_a_table_and_one_line_of_json(monkeypatch):
    monkeypatch.setattr(command, "count_decode", count_decode_once)
    done = CliRunner().invoke(command.main, ["--frames", "33", "--operations"], catch_exceptions=False)
    *lines, last = done.output.splitlines()
    assert any("gelu_" in line for line in lines)
    found = json.loads(last)
    assert [(each["frames"], each["way"]) for each in found["blocks"]] == [
        (33, way.name) for way in (PLAIN, FUSED, INT8, FP8, *HELD)
    ]
    others = [(each["frames"], each["way"], len(each["as_ours"])) for each in found["others"]]
    assert others == [(33, "the reference's way", 4), (33, "diffusers", 4)]
    fused = counted(33, FUSED).summed(beside=True)
    assert (found["blocks"][1]["launches"], found["blocks"][1]["bytes"]) == (fused.launches, fused.nbytes)


count_decode_once = cache(count_decode)
