"""The prompt as characters: cleaning, tags, spans."""

import pytest
from hypothesis import given, strategies as st

from holo_lite.errors import PromptError
from holo_lite.story.prompt import SHORT, TAGS, caption_spans, clean, misspelt_tag


def captions(cleaned):
    """The text of each span, the global one first."""
    spans = caption_spans(cleaned)
    return [cleaned[start:end] for start, end in (spans.global_span, *spans.shot_spans)]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  two  spaces\tand\n\nlines ", "two spaces and lines"),
        ("salt &amp; pepper", "salt & pepper"),
        ("twice &amp;amp; escaped", "twice & escaped"),
        ("&lt;b&gt; &amp;lt;i&amp;gt;", "<b> <i>"),
        ("a&nbsp;&nbsp;b\u3000c", "a b c"),
        ("cafÃ©", "café"),
        ("", ""),
    ],
)
def test_cleaning_is_that_of_training(text, cleaned):
    assert clean(text) == cleaned


def test_spans_run_as_the_model_was_trained():
    assert captions("[global caption] G. [per shot caption] one [shot cut] two [shot cut] three.") == [
        "[global caption] G. ",
        "[per shot caption] one [shot cut]",
        " two [shot cut]",
        " three.",
    ]


def test_plain_text_has_no_windows():
    assert caption_spans("a fox [in the] snow") is None
    assert caption_spans("") is None


def test_a_global_caption_alone_has_no_shot_spans():
    spans = caption_spans("[global caption] a fox")
    assert spans.global_span == (0, 22)
    assert spans.shot_spans == ()


def test_spans_fit_the_cleaned_text_when_spaces_are_double_and_entities_escaped():
    scene = " [global   caption]  salt &amp;amp; pepper "
    shots = " [per shot\ncaption] &lt;one&gt; [shot&nbsp;cut]  caf&eacute; "
    assert captions(clean(scene + shots)) == [
        "[global caption] salt & pepper ",
        "[per shot caption] <one> [shot cut]",
        " café",
    ]


WRONG_TAGS = {
    "[per shot caption] a [shot cut] b": "no [global caption]",
    "a [shot cut] b": "no [global caption]",
    "[global caption] g [shot cut] b": "no [per shot caption]",
    "[per shot caption] a [global caption] g": "[per shot caption] comes before [global caption]",
    "[shot cut] a [global caption] g [per shot caption] b": "[shot cut] comes before [global caption]",
    "[global caption] g [shot cut] a [per shot caption] b": "[shot cut] comes before [per shot caption]",
    "[global caption] g [global caption] h": "[global caption] is 2 times",
    "[global caption] g [per shot caption] a [per shot caption] b [per shot caption] c": "is 3 times",
    "[global caption] g [per shot caption] a [Shot Cut] b": "write it [shot cut]",
    "hello [global caption] g": "before [global caption]",
    "[global caption] g [per shot caption]": "shot 1 has no caption",
    "[global caption] g [per shot caption] [shot cut] b": "shot 1 has no caption after [per shot caption]",
    "[global caption] g [per shot caption] a [shot cut] [shot cut] c": "shot 2 has no caption",
    "[global caption] g [per shot caption] a [shot cut] b [shot cut]": "shot 3 has no caption",
}


@pytest.mark.parametrize(("text", "telling"), WRONG_TAGS.items())
def test_wrong_tags_are_named_in_one_line(text, telling):
    with pytest.raises(PromptError) as caught:
        caption_spans(text)
    assert telling in str(caught.value)
    assert "\n" not in str(caught.value)


word = st.text(alphabet="ab[]., ", min_size=1, max_size=12).filter(str.strip)


@given(word, st.lists(word, min_size=1, max_size=6))
def test_spans_leave_no_character_out(scene, shots):
    cleaned = clean(f"[global caption] {scene} [per shot caption] " + " [shot cut] ".join(shots))
    assert "".join(captions(cleaned)) == cleaned
    assert len(captions(cleaned)) == 1 + len(shots)


@given(st.lists(st.sampled_from(["[global caption]", "[per shot caption]", "[shot cut]", "word"])))
def test_any_order_of_tags_is_understood_or_told(parts):
    cleaned = clean(" ".join(parts))
    try:
        spans = caption_spans(cleaned)
    except PromptError:
        return
    tags = cleaned.replace("word", "").split("[")[1:]
    assert (spans is None) == (not tags)
    if spans is not None:
        assert len(spans.shot_spans) == len(tags) - 1


brackets = st.sampled_from(["[]", "【】", "［］", "()", "{}", "<>", "（）"])


@given(st.sampled_from(TAGS), brackets, st.sampled_from([" ", "_", "-", "  ", "_-"]), st.booleans())
def test_a_tag_in_other_brackets_case_or_separators_is_taken_for_no_caption(tag, ends, separator, capital):
    words = tag.strip("[]").replace(" ", separator)
    written = ends[0] + (words.title() if capital else words) + ends[1]
    if clean(written) in TAGS:
        return
    assert misspelt_tag(f"a {clean(written)} b") == (clean(written), tag)
    with pytest.raises(PromptError, match=r"is not known as written; did you mean \[.* \w+\]\?"):
        caption_spans(clean(f"a man {written} a dog"))


@pytest.mark.parametrize(
    "slip", ["shotcut", "shot cuts", "short cut", "per shot captions", "globel caption", *SHORT]
)
def test_nearly_a_tag_in_square_brackets_is_asked_about(slip):
    assert misspelt_tag(f"x [{slip}] y") is not None


@pytest.mark.parametrize(
    "text",
    ["[character1]", "[shot 2]", "[the shot]", "[caption]", "(a short cut)", "(shot of a cut)", "[cutter]", "[]"],
)
def test_names_in_brackets_are_no_misspelt_tags(text):
    assert misspelt_tag(text) is None
    assert caption_spans(f"a {text} b") is None
