"""The prompt as characters: cleaned as in training, and cut into captions at its tags.

A structured prompt is one string::

    [global caption] {scene} [per shot caption] {shot 1} [shot cut] {shot 2} [shot cut] …

HoloCine shows each shot only its own caption and the global one, so the place of every tag decides who
sees what. The tags are looked for in the *cleaned* string, the one that is tokenised: cleaning turns two
spaces into one and ``&amp;`` into ``&``, and spans found before it would slip by as many characters.

Nothing here uses tokens or tensors; `holo_lite.text.windows` maps characters to tokens.
"""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import ftfy

from holo_lite.errors import PromptError

GLOBAL_TAG = "[global caption]"
PER_SHOT_TAG = "[per shot caption]"
CUT_TAG = "[shot cut]"
TAGS = (GLOBAL_TAG, PER_SHOT_TAG, CUT_TAG)
TAG = re.compile("|".join(map(re.escape, TAGS)))

BRACKETED = re.compile(
    r"[\[{<(【［〔〖「（｛＜〈《]\s*([^\[\]{}<>()【】［］〔〕〖〗「」（）｛｝＜＞〈〉《》]+?)\s*[\]}>)】］〕〗」）｝＞〉》]"
)
SHORT = {"global": GLOBAL_TAG, "per shot": PER_SHOT_TAG, "cut": CUT_TAG}  # what people write for a tag
LIKE = 0.8  # of the letters in square brackets; [shot 2] has 0.75 of those of [shot cut]

LONG_NUMBER = re.compile("&#(?:[xX][0-9a-fA-F]{100,}|[0-9]{100,});?")

Range = tuple[int, int]


@dataclass(frozen=True)
class CaptionSpans:
    """Where the captions lie in a cleaned prompt, as ``(start, end)`` in characters, end excluded.

    `shot_spans` is empty for a prompt that has only a global caption: one shot, which sees just that.
    """

    global_span: Range
    shot_spans: tuple[Range, ...]


def clean(text: str) -> str:
    """Return `text` as the text encoder was trained to see it.

    Broken Unicode repaired, HTML entities resolved twice (captions from the web are often escaped twice),
    every run of white space one space, none at the ends.
    """
    mended = _unescaped(_unescaped(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", mended).strip()


def _unescaped(text: str) -> str:
    """HTML entities resolved; a number that is no character's is one replacement character, however long it is."""
    return html.unescape(LONG_NUMBER.sub("\ufffd", text))


def caption_spans(cleaned: str) -> CaptionSpans | None:
    """Find the captions of a cleaned prompt, or None for plain text, which has no windows.

    The global span runs up to ``[per shot caption]``; the first shot's from there through the end of the
    first ``[shot cut]``; each later one through the end of the next, the last to the end of the text.

    Raises `PromptError` for tags that are misspelt, repeated, out of order or without a global
    caption, for text before the first tag, which no shot would see, and for a shot with an empty caption.
    """
    if slip := misspelt_tag(cleaned):
        raise PromptError(f"the tag {slip[0]} is not known as written; did you mean {slip[1]}? write it {slip[1]}")
    tags = list(TAG.finditer(cleaned))
    if not tags:
        return None
    _check_tags([tag.group() for tag in tags])
    if tags[0].start() > 0:
        raise PromptError(f"no shot would see the text before {GLOBAL_TAG}; move it after the tag")
    if len(tags) == 1:
        return CaptionSpans((0, len(cleaned)), ())
    _check_captions(cleaned, tags[1:])
    bounds = [tags[1].start(), *(cut.end() for cut in tags[2:]), len(cleaned)]
    return CaptionSpans((0, bounds[0]), tuple(pairwise(bounds)))


def misspelt_tag(cleaned: str) -> tuple[str, str] | None:
    """Find the first thing in brackets that is meant for a tag and is none, and the tag that it is meant for.

    In square brackets, of any width, what is nearly a tag; in others only its very words: ``(shot cut)``.
    """
    for found in BRACKETED.finditer(cleaned):
        meant = _meant(found[1], strict=found[0][0] not in "[【［〔")
        if meant is not None and found[0] != meant:
            return found[0], meant
    return None


def _meant(inside: str, *, strict: bool) -> str | None:
    words = " ".join(re.split(r"[\W_]+", inside.lower()))
    known = {tag.strip("[]"): tag for tag in TAGS}
    if words in known or strict:
        return known.get(words)
    close = difflib.get_close_matches(words.replace(" ", ""), [name.replace(" ", "") for name in known], 1, LIKE)
    by_letters = {name.replace(" ", ""): tag for name, tag in known.items()}
    return by_letters[close[0]] if close else SHORT.get(words)


def _check_tags(tags: Sequence[str]) -> None:
    """Accept only: global caption, then per shot caption, then any number of cuts."""
    for tag in (GLOBAL_TAG, PER_SHOT_TAG):
        if tags.count(tag) > 1:
            raise PromptError(f"{tag} is {tags.count(tag)} times in the prompt; keep only the first")
    if GLOBAL_TAG not in tags:
        raise PromptError(f"the prompt has {tags[0]} but no {GLOBAL_TAG}; begin it with {GLOBAL_TAG}")
    if CUT_TAG in tags and PER_SHOT_TAG not in tags:
        raise PromptError(f"the prompt has {CUT_TAG} but no {PER_SHOT_TAG}; put that before the first shot")
    for tag, place in zip(tags, (GLOBAL_TAG, PER_SHOT_TAG), strict=False):
        if tag != place:
            raise PromptError(f"{tag} comes before {place}; put {place} first")


def _check_captions(cleaned: str, tags: Sequence[re.Match[str]]) -> None:
    ends = [*(tag.start() for tag in tags[1:]), len(cleaned)]
    for shot, (tag, end) in enumerate(zip(tags, ends, strict=True), start=1):
        if not cleaned[tag.end() : end].strip():
            raise PromptError(f"shot {shot} has no caption after {tag.group()}; describe it or remove the tag")
