"""Which text rows each shot sees, against the reference's windows and against an obvious oracle."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from holo_lite.errors import CheckpointError, PromptError
from holo_lite.story.prompt import caption_spans, clean
from holo_lite.text.windows import (
    TEXT_LENGTH,
    PromptTokenizer,
    TokenizedPrompt,
    Windows,
    read_prompt,
    token_windows,
)

PARITY = json.loads((Path(__file__).parents[1] / "parity_data" / "prompts.json").read_text(encoding="utf-8"))


def toy_tokenizer():
    """One token a word, without the space before it."""
    tokenizer = Tokenizer(WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


@pytest.fixture
def toy(tmp_path):
    toy_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return PromptTokenizer(tmp_path / "tokenizer.json")


@pytest.fixture(scope="session")
def umt5(umt5_tokenizer_path):
    return PromptTokenizer(umt5_tokenizer_path)


def expected_windows(entry):
    if entry["global"] is None:
        return None
    return Windows(tuple(entry["global"]), tuple(map(tuple, entry["shots"])))


# --- the reference ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", PARITY)
def test_ids_offsets_and_windows_of_the_real_tokenizer_are_the_references(entry, umt5):
    prompt = read_prompt(entry["prompt"], umt5)
    assert list(prompt.ids) == entry["token_ids"]
    assert [list(offset) for offset in umt5.encode(prompt.text).offsets] == entry["token_offsets"]
    assert prompt.windows == expected_windows(entry)
    assert prompt.shots == max(1, len(entry["shots"]))


@pytest.mark.parametrize("entry", [entry for entry in PARITY if entry["global"]])
def test_windows_follow_from_the_stored_offsets_alone(entry):
    tokenized = TokenizedPrompt(tuple(entry["token_ids"]), tuple(map(tuple, entry["token_offsets"])))
    assert token_windows(tokenized, caption_spans(clean(entry["prompt"]))) == expected_windows(entry)


@pytest.mark.parametrize("entry", PARITY)
def test_untidy_spaces_and_entities_do_not_shift_the_windows(entry, umt5):
    untidy = entry["prompt"].replace(" ", " \n ").replace("g", "&#103;")
    assert read_prompt(untidy, umt5) == read_prompt(entry["prompt"], umt5)


# --- what a shot sees ------------------------------------------------------------------------------------


def test_rows_include_the_end_of_each_range_and_the_padding():
    windows = Windows((0, 3), ((3, 6), (6, 9)))  # end of sequence at 9
    padding = range(10, TEXT_LENGTH)
    assert windows.rows(0) == (0, 1, 2, 3, 4, 5, 6, *padding)
    assert windows.rows(1) == (0, 1, 2, 3, 6, 7, 8, 9, *padding)


def test_only_the_last_shot_sees_the_end_of_the_sequence(umt5):
    prompt = read_prompt(PARITY[0]["prompt"], umt5)
    end = len(prompt.ids) - 1
    assert [end in prompt.windows.rows(shot) for shot in range(3)] == [False, False, True]


def test_a_global_caption_alone_is_one_shot_that_sees_it_and_the_padding(umt5):
    prompt = read_prompt("[global caption] a fox in the snow", umt5)
    assert prompt.shots == 1
    assert prompt.windows.shot_ranges == ()
    assert prompt.windows.rows(0) == tuple(range(TEXT_LENGTH))


def test_plain_text_has_no_windows_and_one_shot(toy):
    prompt = read_prompt("a  fox", toy)
    assert (prompt.text, prompt.ids, prompt.windows, prompt.shots) == ("a fox", (2, 2, 1), None, 1)


def test_a_token_across_a_boundary_belongs_to_the_earlier_caption(toy):
    windows = read_prompt("[global caption] g [per shot caption] a [shot cut]b c", toy).windows
    assert windows == Windows((0, 3), ((3, 9), (9, 10)))


# --- the oracle ------------------------------------------------------------------------------------------


@st.composite
def layouts(draw):
    """A prompt of random tags, cut into tokens at random, with a few tokens that hold no character."""
    word = st.text(alphabet="ab ", min_size=1, max_size=10).filter(str.strip)
    shots = draw(st.lists(word, max_size=5))
    structured = " [per shot caption] " + " [shot cut] ".join(shots) if shots else ""
    cleaned = clean(f"[global caption] {draw(word)}{structured}")
    inner = draw(st.sets(st.integers(1, len(cleaned) - 1)))
    bounds = sorted([0, *inner, *draw(st.lists(st.sampled_from([0, *inner]), max_size=3)), len(cleaned)])
    offsets = (*pairwise(bounds), (0, 0))
    return caption_spans(cleaned), TokenizedPrompt((7,) * len(offsets), offsets)


def owner(offset, spans):
    """The first span that shares a character with a token, or None."""
    for number, span in enumerate(spans):
        if set(range(*offset)) & set(range(*span)):
            return number
    return None


def slow_mask(spans, tokenized, shot):
    """The mask of one shot, token by token as the specification says; None if a caption has no token."""
    ordered = (spans.global_span, *spans.shot_spans)
    owners = [owner(offset, ordered) for offset in tokenized.offsets]
    if set(range(len(ordered))) - set(owners):
        return None
    tokens = [[token for token, span in enumerate(owners) if span == number] for number in range(len(ordered))]
    ends = [max(mine) + 1 for mine in tokens]
    own = shot + 1 if spans.shot_spans else 0
    mask = [False] * TEXT_LENGTH
    for row in range(TEXT_LENGTH):
        for caption in (0, own):
            mask[row] |= min(tokens[caption]) <= row <= ends[caption]
        mask[row] |= row >= max(ends) + 1
    return mask


@given(layouts())
def test_rows_are_those_of_the_slow_mask(layout):
    spans, tokenized = layout
    for shot in range(max(1, len(spans.shot_spans))):
        mask = slow_mask(spans, tokenized, shot)
        if mask is None:
            with pytest.raises(PromptError, match="yields no token"):
                token_windows(tokenized, spans)
            return
        rows = token_windows(tokenized, spans).rows(shot)
        assert rows == tuple(row for row in range(TEXT_LENGTH) if mask[row])


# --- what does not fit -----------------------------------------------------------------------------------


def long_prompt(scene, *shots):
    """A prompt of these many words in its captions; the toy tokenizer counts its tags as words too."""
    words = [" ".join(["w"] * count) for count in (scene, *shots)]
    return f"[global caption] {words[0]} [per shot caption] " + " [shot cut] ".join(words[1:])


def test_512_tokens_fit_and_the_last_shot_then_sees_no_padding(toy):
    prompt = read_prompt(long_prompt(100, 200, 204), toy)  # 5 words in tags before, 2 in the cut, 1 end
    assert len(prompt.ids) == TEXT_LENGTH
    assert prompt.windows.rows(1)[-1] == TEXT_LENGTH - 1
    assert prompt.windows.rows(0)[-1] == prompt.windows.shot_ranges[0][1]


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        (long_prompt(100, 200, 205), "513 tokens, the limit is 512, shot 2 is cut off first"),
        (long_prompt(100, 500, 5, 5), "shot 1 is cut off first"),
        (long_prompt(100, 300, 200, 5), "shot 2 is cut off first"),
        (long_prompt(600, 5), "the global caption is cut off first"),
        ("w " * 600, "601 tokens, the limit is 512; shorten it by 89"),
        ("[global caption] g [per shot caption] a [shot cut]b", "shot 2 yields no token"),
    ],
)
def test_what_does_not_fit_is_told_with_the_shot_it_hurts(text, telling, toy):
    with pytest.raises(PromptError) as caught:
        read_prompt(text, toy)
    assert telling in str(caught.value)
    assert "\n" not in str(caught.value)


# --- the tokenizer's file --------------------------------------------------------------------------------


def test_truncation_and_padding_asked_for_by_the_file_are_not_applied(tmp_path):
    tokenizer = toy_tokenizer()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=20)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert PromptTokenizer(tmp_path / "tokenizer.json").encode("a b c d e f").ids == (2, 2, 2, 2, 2, 2, 1)


def test_a_tokenizer_that_is_missing_damaged_or_anothers_is_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(CheckpointError, match="no such file"):
        PromptTokenizer(path)
    path.write_text('{"version": "1.0", "mod')
    with pytest.raises(CheckpointError, match="damaged"):
        PromptTokenizer(path)
    tokenizer = toy_tokenizer()
    tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    tokenizer.save(str(path))
    with pytest.raises(CheckpointError, match="is not the umt5 tokenizer"):
        PromptTokenizer(path)
