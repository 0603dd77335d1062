"""Orders are read strictly, and docs/worker.md names every field."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from holo_lite.errors import HoloError
from holo_lite.settings import Options
from holo_lite.worker.order import ORDER, Order

PAGE = Path(__file__).parents[2] / "docs" / "worker.md"
PATHS = st.none() | st.sampled_from(["/a", "/b c"])


def test_the_page_names_exactly_the_fields_of_an_order():
    asked = PAGE.read_text(encoding="utf-8").split("## What it answers")[0]
    named = re.findall(r"^\| `(\w+)` \|", asked, re.MULTILINE)
    assert named == [each.name for each in dataclasses.fields(Order) if each.name != "origin"]


@given(
    PATHS,
    PATHS,
    st.dictionaries(st.sampled_from(["1", "2"]), st.none() | st.text(max_size=9)),
    st.none() | st.tuples(st.integers(1, 9)),
    st.booleans(),
    st.lists(st.integers(0, 9), max_size=2).map(tuple),
)
def test_an_order_comes_out_as_it_went_in_or_is_refused_in_one_line(board, video, again, remember, draft, seeds):
    order = Order("/out.mp4", board, video, again, remember, options=Options(seed=3), draft=draft, seeds=seeds)
    retakes, extends = video is not None and board is None, video is not None and board is not None
    possible = (board is not None or video is not None) and bool(again) == retakes and (remember is None or extends)
    table = json.loads(json.dumps(order.table()))
    if possible and not (seeds and draft):
        assert ORDER.of_table(table) == order
    else:
        with pytest.raises(HoloError) as refused:
            ORDER.of_table(table)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "storyboard"),
        ({"storyboard": 3}, "storyboard"),
        ({"storyboard": "/a", "options": {"steps": "many"}}, "steps"),
        ({"storyboard": "/a", "opening": {"attention": "dense"}}, "attention"),
        ({"storyboard": "/a", "frames": "gif"}, "frames"),
        ({"storyboard": "/a", "preview": 1}, "preview_at"),
        ({"storyboard": "/a", "seeds": [1, -1]}, "seeds"),
        ({"storyboard": "/a", "seeds": [1], "raw": "/r"}, "raw"),
        ({"storyboard": "/a", "frames": "raw", "raw": "/r"}, "raw"),
        ({"video": "/v.mp4", "storyboard": "/a", "again": {"1": None}}, "again"),
        ({"video": "/v.mp4"}, "again"),
        ({"storyboard": "/a", "remember": [1]}, "remember"),
    ],
)
def test_what_cannot_be_made_is_refused_and_the_field_is_named(fields, word):
    with pytest.raises(HoloError, match=word):
        ORDER.of_table({"version": 1, "runs_from": 1, "out": "/out.mp4", **fields})


def test_an_order_of_the_first_version_is_one_of_today():
    """The page keeps orders in a file, and a program may be older than we are."""
    first = {"version": 1, "runs_from": 1, "storyboard": "/a", "out": "/o.mp4"}
    assert ORDER.of_table(first) == Order("/o.mp4", "/a")


def test_a_shot_is_named_by_its_number():
    order = Order("/o.mp4", video="/v.mp4", again={"3": "Closer.", "1": None})
    assert order.shots_again == {3: "Closer.", 1: None}
    with pytest.raises(HoloError, match="first"):
        assert Order("/o.mp4", video="/v.mp4", again={"first": None}).shots_again
