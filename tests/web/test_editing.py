"""A draft stays a draft whatever is done to it: lengths add up, ids stay, and every step can be taken back."""

import dataclasses
import json

import pytest
from fake_renderer import Clock
from hypothesis import given, strategies as st

from holo_lite.errors import HoloError, SettingsError
from holo_lite.story.shots import FRAMES_PER_LATENT
from holo_lite.web.board import ONE_GO, Board
from holo_lite.web.draft import DRAFT, Draft, DraftShot, empty_draft, first_frame, latent_of
from holo_lite.web.editing import MOST_SHOTS, OPERATIONS, edited

TEXTS = st.text(max_size=8)
NUMBERS = st.integers(-3, 40)


@st.composite
def operations(draw):
    """An operation as a page may send it, right or wrong."""
    kind = draw(st.sampled_from([*OPERATIONS, "undo", "redo"]))
    shot = draw(st.sampled_from(["s1", "s2", "s3", "s6", "s7", "none"]))
    fields = {"shot": shot, "text": draw(TEXTS), "index": draw(NUMBERS), "latent": draw(NUMBERS)}
    fields |= {"latents": draw(NUMBERS), "to": draw(NUMBERS), "after": draw(st.none() | st.just(shot)), "id": "r1"}
    fields |= {"name": draw(st.sampled_from(["width", "seed", "cfg", "lora", "nothing"])), "upload": "a" * 32}
    return {"op": kind, **fields, "value": draw(st.none() | st.integers(0, 99) | TEXTS), "caption": draw(TEXTS)}


@given(st.lists(operations(), max_size=12))
def test_any_operations_leave_a_draft_that_is_kept_and_undone_to_the_first(tmp_path_factory, said):
    path = tmp_path_factory.mktemp("board") / "draft.json"
    board = Board(path, Clock())
    first, steps = board.draft, 0
    refused, same = [], []
    for each in said:
        before = board.draft
        try:
            board.do(each)
        except SettingsError as error:
            refused.append(str(error))
            same.append(board.draft == before)
        draft = board.draft
        assert len({shot.id for shot in draft.shots}) == len(draft.shots) >= 1
        assert all(shot.latents >= 1 for shot in draft.shots)
        assert draft.starts == tuple(sum(s.latents for s in draft.shots[:i]) for i in range(len(draft.shots)))
        assert DRAFT.read(DRAFT.write(draft)) == draft
        if draft != before:
            steps += 1
            assert Board(path).draft == draft
    assert all(same)
    assert not any("\n" in each for each in refused)
    for _ in range(steps + 1):
        board.do({"op": "undo"})
    assert board.draft == first
    assert not board.can_undo


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_frames_and_cuts_are_those_of_the_latent_frames(lengths):
    draft = empty_draft(tuple(lengths))
    assert draft.frames == FRAMES_PER_LATENT * (sum(lengths) - 1) + 1
    starts = [sum(lengths[:place]) for place in range(1, len(lengths))]
    assert list(draft.cuts) == [FRAMES_PER_LATENT * (start - 1) + 1 for start in starts]
    assert [latent_of(cut) for cut in draft.cuts] == starts
    assert all(latent_of(first_frame(latent)) == latent for latent in range(sum(lengths)))


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.data())
def test_a_cut_moves_between_its_neighbours_and_the_clip_stays_as_long(lengths, data):
    draft = empty_draft(tuple(lengths))
    index, latent = data.draw(st.integers(0, len(lengths) - 2)), data.draw(st.integers(-5, 60))
    found = edited(draft, {"op": "cut", "index": index, "latent": latent})
    assert found.latents == draft.latents
    assert [s.latents for s in found.shots if s.id not in {f"s{index + 1}", f"s{index + 2}"}] == [
        length for place, length in enumerate(lengths) if place not in {index, index + 1}
    ]
    low, high = sum(lengths[:index]) + 1, sum(lengths[: index + 2]) - 1
    assert found.starts[index + 1] == min(max(latent, low), high)


def test_typing_in_one_field_is_one_step_until_one_pauses(tmp_path):
    clock = Clock()
    board = Board(tmp_path / "draft.json", clock)
    for text in ("a", "a f", "a fox"):
        board.do({"op": "scene", "text": text})
    clock.now += ONE_GO + 1
    board.do({"op": "scene", "text": "a fox runs"})
    board.do({"op": "undo"})
    assert board.draft.scene == "a fox"
    board.do({"op": "undo"})
    assert board.draft.scene == ""
    board.do({"op": "redo"})
    board.do({"op": "redo"})
    assert board.draft.scene == "a fox runs"


def test_a_split_shot_keeps_its_length_and_a_removed_one_takes_its_own():
    draft = empty_draft((5, 4))
    split = edited(draft, {"op": "split", "shot": "s1", "latents": 2})
    assert [shot.latents for shot in split.shots] == [2, 3, 4]
    assert [shot.id for shot in split.shots] == ["s1", "s3", "s2"]
    assert edited(split, {"op": "remove", "shot": "s3"}).latents == 6
    moved = edited(split, {"op": "move", "shot": "s2", "to": 0})
    assert [shot.id for shot in moved.shots] == ["s2", "s1", "s3"]


def test_the_next_character_is_named_once():
    draft = edited(Draft(shots=(DraftShot("s1"),)), {"op": "character"})
    draft = edited(dataclasses.replace(draft, scene=draft.scene + "a fox."), {"op": "character"})
    assert draft.scene == "[character1] is a fox. [character2] is "


@pytest.mark.parametrize(
    "said",
    [
        {"op": "sing"},
        {},
        {"op": "scene"},
        {"op": "scene", "text": 3},
        {"op": "scene", "text": "a" * 30_000},
        {"op": "caption", "shot": "s9", "text": ""},
        {"op": "cut", "index": 9, "latent": 3},
        {"op": "cut", "index": True, "latent": 3},
        {"op": "option", "name": "__class__", "value": 3},
        {"op": "option", "name": "steps", "value": "many"},
        {"op": "option", "name": "lora", "value": [{"id": 3}]},
        {"op": "length", "shot": "s1", "latents": 10**9} | {"op": "picture", "upload": 3, "shot": "s1"},
    ],
)
def test_what_cannot_be_done_is_one_line(said):
    with pytest.raises(HoloError) as refused:
        edited(empty_draft(), said)
    assert "\n" not in str(refused.value)


def test_a_clip_does_not_grow_without_end():
    draft = empty_draft((1,) * MOST_SHOTS)
    with pytest.raises(SettingsError, match=str(MOST_SHOTS)):
        edited(draft, {"op": "add"})


def test_a_draft_that_cannot_be_read_is_begun_anew(tmp_path):
    path = tmp_path / "draft.json"
    for text in ("", "{", json.dumps({"version": 1, "runs_from": 1, "shots": 3}), "\x00"):
        path.write_text(text, encoding="utf-8")
        assert Board(path).draft == empty_draft()
