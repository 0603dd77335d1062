"""JSON trees within bounds: what is looked at fast is what a slow look finds, and a fault is named by its place."""

import math

import pytest
from hypothesis import given, strategies as st

from holo_lite.errors import RecordError
from holo_lite.reading.trees import DEEPEST, LARGEST_WHOLE, SMALLEST_WHOLE, check

HALF = "\ud83d"
FINE = [0, True, None, 1.5, "a", "é", "海", LARGEST_WHOLE, SMALLEST_WHOLE]
BAD = [LARGEST_WHOLE + 1, SMALLEST_WHOLE - 1, math.nan, -math.inf, HALF, f"a{HALF}"]
LEAVES = st.sampled_from(FINE) | st.sampled_from([*FINE, *BAD])
KEYS = st.sampled_from(["a", "b", "é", HALF])
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


def is_wrong(value, depth, finite, surrogates):
    """One value after another, as the words of `check` say it."""
    if depth > DEEPEST:
        return True
    if isinstance(value, list):
        return any(is_wrong(each, depth + 1, finite, surrogates) for each in value)
    if isinstance(value, dict):
        return any(
            is_wrong(key, depth, finite, surrogates) or is_wrong(inner, depth + 1, finite, surrogates)
            for key, inner in value.items()
        )
    if isinstance(value, str):
        return not surrogates and any(0xD800 <= ord(letter) < 0xE000 for letter in value)
    if isinstance(value, float):
        return finite and (math.isnan(value) or math.isinf(value))
    return isinstance(value, int) and not SMALLEST_WHOLE <= value <= LARGEST_WHOLE


def nested(depth, value=0):
    for place in range(depth):
        value = {"a": value} if place % 2 else [value]
    return value


@given(TREES, st.integers(0, DEEPEST + 1), st.booleans(), st.booleans())
def test_whatever_is_wrong_is_found_and_nothing_else(tree, deep, finite, surrogates):
    tree = nested(deep, tree)
    try:
        check(tree, finite=finite, surrogates=surrogates)
    except RecordError:
        assert is_wrong(tree, 0, finite, surrogates)
    else:
        assert not is_wrong(tree, 0, finite, surrogates)


@pytest.mark.parametrize("before", [0, 3])
def test_a_tree_that_stands_at_a_path_may_be_as_much_less_deep(before):
    check(nested(DEEPEST - before), ("a",) * before)
    with pytest.raises(RecordError, match=r"nested too deeply at \$"):
        check(nested(DEEPEST - before + 1), ("a",) * before)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ([{"a": [1, math.nan]}], "a number that is not finite at $[0].a[1]"),
        ({"a": {"b c": 2**64}}, "a number out of range at $.a['b c']"),
        ({"a": {HALF: 1}}, "half of a character at $.a"),
    ],
)
def test_a_fault_is_named_by_its_place(tree, said):
    with pytest.raises(RecordError) as caught:
        check(tree)
    assert str(caught.value) == said
