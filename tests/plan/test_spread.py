"""How a clip is laid over several cards: spans that balance, who is chosen, and what each rank's plan says."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st
from small_model import layouts

from holo_lite.errors import FitError
from holo_lite.model.parts import Part
from holo_lite.plan.cards import find_card
from holo_lite.plan.cost import Operations, Rate, forward_operations, vendor_rate
from holo_lite.plan.cuts import SLACK, balanced_cuts
from holo_lite.plan.fit import make_plan
from holo_lite.plan.machine import machine_with
from holo_lite.plan.phases import ClipRequest
from holo_lite.plan.profile import find_profile
from holo_lite.plan.rank_plans import Station
from holo_lite.plan.released import released_sizes
from holo_lite.plan.spread import choose_spread, part_operations
from holo_lite.plan.traffic import received_bytes, sent_bytes
from holo_lite.story.shots import ShotLayout, even_cuts

SIZES = released_sizes("nf4")
MIB = 2**20


def layout_of(frames, cuts=()):
    return ShotLayout.from_frames(frames, cuts, 480, 832)


FIVE = ClipRequest(layout_of(241, even_cuts(241, 5)))
ONE = ClipRequest(layout_of(241))


def station(name, profile="24gb"):
    card = find_card(name)
    return Station(name, find_profile(profile), machine_with(card), vendor_rate(card))


TWO = [station("RTX 3090")] * 2
UNEQUAL = [station("RTX 3090"), station("RTX 3060", "12gb")]


def spread(stations, request, *, throughout=True):
    return choose_spread(stations, SIZES, request, throughout=throughout)


# --- spans -----------------------------------------------------------------------------------------


def slowest(layout, paces, cuts):
    """Token by token."""
    times = []
    for pace, (start, stop) in zip(paces, pairwise((0, *cuts, layout.tokens)), strict=True):
        shots = [layout.shot_of_latent_frame[token // layout.frame_tokens] for token in range(start, stop)]
        times.append(sum(pace[shot] for shot in shots))
    return max(times)


def best(layout, paces):
    """The least time there is, one token after the other: by all ways to cut for two ranks."""
    return min(slowest(layout, paces, (cut,)) for cut in range(1, layout.tokens))


@settings(max_examples=60)
@given(layout=layouts().filter(lambda layout: layout.tokens > 1), data=st.data())
def test_two_spans_take_at_most_a_tenth_longer_than_the_best_there_are(layout, data):
    pace = st.floats(0.5, 4.0)
    speeds = data.draw(st.tuples(st.floats(0.2, 5.0), st.floats(0.2, 5.0)))
    shots = data.draw(st.lists(pace, min_size=layout.shots, max_size=layout.shots))
    paces = [[each / speed for each in shots] for speed in speeds]
    (cut,) = balanced_cuts(layout, paces)
    a_token = max(max(pace) for pace in paces)  # cuts are between tokens, and times between are not to be had
    assert slowest(layout, paces, (cut,)) <= SLACK * (best(layout, paces) + a_token)


@given(layout=layouts(), count=st.integers(2, 5))
def test_every_rank_has_a_token(layout, count):
    if layout.tokens < count:
        return
    cuts = balanced_cuts(layout, [[1.0] * layout.shots] * count)
    assert len(cuts) == count - 1
    assert all(a < b for a, b in pairwise((0, *cuts, layout.tokens)))


def test_shots_stay_whole_where_that_balances():
    layout = ShotLayout((0, 10, 20, 30), 40, 3, 4)
    assert balanced_cuts(layout, [[1.0] * 4] * 2) == (20 * 12,)
    assert balanced_cuts(layout, [[1.0] * 4] * 4) == (120, 240, 360)


def test_a_cut_goes_through_a_shot_where_whole_ones_do_not_balance():
    layout = ShotLayout((0, 4), 20, 3, 4)
    assert balanced_cuts(layout, [[1.0] * 2] * 2) == (120,)


def test_many_ranks_are_balanced_too():
    layout = ShotLayout(tuple(range(0, 90, 10)), 90, 3, 4)
    cuts = balanced_cuts(layout, [[1.0] * 9] * 9)
    assert cuts == tuple(120 * number for number in range(1, 9))


# --- who computes what -----------------------------------------------------------------------------


def test_equal_cards_take_a_branch_each():
    found = spread(TWO, FIVE)
    assert found.way == "guidance branches apart"
    assert [part.branches for part in found.parts] == [(0,), (1,)]
    assert found.sent == 0
    assert not any(plan.joint for plan in found.plans)
    assert found.gain == pytest.approx(2)


@pytest.mark.parametrize("request_", [replace(FIVE, guided=False), FIVE])
def test_without_two_branches_in_every_step_shots_are_apart(request_):
    assert spread(TWO, request_, throughout=False).way == "shots apart"


def test_four_cards_take_both_apart():
    found = spread([station("RTX 4090")] * 4, FIVE)
    assert found.way == "guidance branches apart, and shots"
    assert [part.branches for part in found.parts] == [(0,), (0,), (1,), (1,)]
    assert [part.of for part in found.parts] == [2] * 4


def test_unequal_cards_take_as_long_as_each_other():
    found = spread(UNEQUAL, FIVE)
    assert found.way == "shots apart"
    whole = part_operations(SIZES, FIVE, range(FIVE.layout.tokens))
    alone = [2 * each.rate.seconds(whole) for each in UNEQUAL]
    assert max(found.seconds) <= SLACK / sum(1 / seconds for seconds in alone)
    assert len(found.parts[0].tokens) > 2 * len(found.parts[1].tokens)


@pytest.mark.parametrize("request_", [FIVE, ONE, replace(FIVE, attention="full")])
@pytest.mark.parametrize("stations", [TWO, UNEQUAL, [station("RTX 3060", "12gb")] * 3])
def test_parts_are_the_whole_clip_and_its_operations(stations, request_):
    found = spread(stations, request_, throughout=False)
    tokens = [token for part in found.parts for token in (part.start, part.stop)]
    assert tokens[0] == 0
    assert tokens[-1] == request_.layout.tokens
    assert tokens[1:-1:2] == tokens[2::2]
    whole = forward_operations(SIZES.config, request_.layout, request_.attention)
    parts = [part_operations(SIZES, request_, part.tokens) for part in found.parts]
    assert sum(each.linear for each in parts) == pytest.approx(whole.linear)
    # a forward's attention counts the text's rows, too, which are the same for every token
    text = whole.attention - sum(each.attention for each in parts)
    assert text == SIZES.config.num_layers * 4 * SIZES.config.dim * request_.layout.tokens * 512 or text == 0


def test_what_travels_is_little_beside_everything():
    """241 frames in five shots on two cards, one branch: of first frames alone, and of a divided shot (bf16)."""
    frame = FIVE.layout.frame_tokens
    halves = [Part((0,), 0, 25 * frame, 0, 2), Part((0,), 25 * frame, 61 * frame, 1, 2)]
    assert sent_bytes(SIZES, FIVE, halves) == 2 * 5 * frame * 5120 * 2  # keys and values of five frames
    middle = FIVE.layout.tokens // 2
    divided = [Part((0,), 0, middle, 0, 2), Part((0,), middle, FIVE.layout.tokens, 1, 2)]
    assert sent_bytes(SIZES, FIVE, divided) > sent_bytes(SIZES, FIVE, halves)
    assert received_bytes(SIZES, FIVE, halves) == 2 * 3 * frame * 5120 * 2


@settings(max_examples=60)
@given(layout=layouts().filter(lambda layout: layout.tokens > 2), data=st.data())
def test_the_rank_that_receives_most_receives_every_row_it_has_not(layout, data):
    """Row by row: what a rank's queries see and others compute."""
    cuts = sorted(data.draw(st.sets(st.integers(1, layout.tokens - 1), min_size=2, max_size=2)))
    parts = [Part((0, 1), *span, number, 3) for number, span in enumerate(pairwise((0, *cuts, layout.tokens)))]
    request_ = ClipRequest(layout, data.draw(st.sampled_from(["sparse", "full"])))
    most = 0
    for part in parts:
        seen = set(range(layout.tokens))
        if request_.attention == "sparse":
            seen = {token for shot in range(layout.shots) for token in layout.representative_span(shot)}
            for shot in range(layout.shots):
                span = set(layout.token_span(shot))
                seen |= span if span & set(part.tokens) else set()
        most = max(most, len(seen - set(part.tokens)))
    assert received_bytes(SIZES, request_, parts) == 2 * 2 * most * SIZES.config.dim * SIZES.bytes_per_number


# --- plans -----------------------------------------------------------------------------------------


def test_memory_falls_with_the_tokens_a_rank_holds():
    alone = make_plan(TWO[0].profile, SIZES, replace(FIVE, guided=False), TWO[0].machine)
    found = spread(TWO, replace(FIVE, guided=False))
    for plan in found.plans:
        assert plan.resident >= alone.resident
        assert plan.phases["high_noise"].streamed <= alone.phases["high_noise"].streamed


def test_whoever_follows_reads_no_prompt_and_decodes_nothing():
    lead, other = spread(TWO, FIVE).plans
    assert lead.text.peak > 0
    assert lead.decode.peak > 0
    assert (other.text.peak, other.decode.peak) == (0, 0)


def test_a_clip_too_long_for_one_card_is_planned_on_two():
    small = [station("RTX 3060 8 GB", "6gb")] * 2
    request = None
    for frames in range(241, 4000, 80):
        request = ClipRequest(layout_of(frames, even_cuts(frames, 5)))
        try:
            make_plan(small[0].profile, SIZES, request, small[0].machine)
        except FitError:
            break
    found = spread(small, request)
    assert all(max(plan.peak.values()) <= plan.budget for plan in found.plans)


def test_all_visit_blocks_in_one_way():
    """Two branches in a visit or one after the other: exchanges come in that order, and must on all ranks."""
    unequal = [station("RTX 3090"), station("RTX 3060 8 GB", "8gb")]
    long = ClipRequest(layout_of(961, even_cuts(961, 12)))
    found = spread(unequal, long)
    assert len({plan.joint for plan in found.plans}) == 1


def test_a_clip_that_fits_nowhere_is_refused_in_a_line():
    endless = ClipRequest(layout_of(20001))
    with pytest.raises(FitError, match=r"^RTX 3060 8 GB: its part of the clip needs [\d.]+ GiB .*more devices$"):
        spread([station("RTX 3060 8 GB", "6gb")] * 2, endless)


def test_a_rate_is_seconds_of_operations():
    assert Rate(2.0, 4.0, "").seconds(Operations(4, 4)) == 3
