"""What another library's error becomes in a message to a person."""

import pytest
from hypothesis import given, strategies as st

from holo_lite.errors import LINE, in_a_line, with_kind


@given(text=st.text(max_size=400), most=st.integers(1, 200), whole=st.booleans())
def test_any_error_is_one_line_no_longer_than_asked_and_never_empty(text, most, whole):
    for said, longest in (
        (in_a_line(ValueError(text), most, whole=whole), max(most, len("ValueError"))),
        (with_kind(ValueError(text), most), most + len("ValueError: ")),
    ):
        assert said
        assert len(said) <= longest
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "first", "whole", "kind"),
    [
        ("", "KeyError", "KeyError", "KeyError"),
        ("\n  out of memory\n at 0x1", "out of memory", "out of memory at 0x1", "KeyError: out of memory"),
        ("x" * 200, "x" * (LINE - 1) + "…", "x" * (LINE - 1) + "…", f"KeyError: {'x' * (LINE - 1)}…"),
    ],
)
def test_the_first_line_the_whole_and_the_kind(text, first, whole, kind):
    error = type("KeyError", (Exception,), {})(text)
    assert in_a_line(error) == first
    assert in_a_line(error, whole=True) == whole
    assert with_kind(error) == kind
