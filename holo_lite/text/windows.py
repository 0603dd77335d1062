"""From characters to tokens: which of the 512 text rows each shot may see.

The transformer always gets 512 text rows: the prompt's tokens up to the end-of-sequence token, then rows
of zeros. A video token of shot s sees the rows of the global caption, those of its own caption, and the
zeros; a prompt without tags has no windows and is seen whole.

Two things here look like mistakes and are what the model was trained on:

- A range ``(first, last + 1)`` is used with its end *included*, so each caption lends its shot one row
  more than it has tokens: its neighbour's first, or the end-of-sequence token for the last shot.
- A token belongs to the first caption its characters touch, and a word's token holds the space before
  it. So the ``▁[`` of ``[per shot caption]`` is still global.

Ids and character offsets come from the `tokenizers` library and the umt5 ``tokenizer.json``: transformers 5
rebuilds that tokenizer with other offsets, which would shift every window by a token.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from holo_lite.config import TEXT_ROWS
from holo_lite.errors import CheckpointError, PromptError
from holo_lite.story.prompt import CaptionSpans, Range, caption_spans, clean

EOS_ID = 1
PANIC = "PanicException"  # of the language that the library is written in; it is no `Exception`


@dataclass(frozen=True)
class TokenizedPrompt:
    """Token ids up to and including the end of the sequence, and the characters of each."""

    ids: tuple[int, ...]
    offsets: tuple[Range, ...]


@dataclass(frozen=True)
class Windows:
    """The captions as token ranges ``(first, last + 1)``; a global caption alone has no `shot_ranges`."""

    global_range: Range
    shot_ranges: tuple[Range, ...]

    @property
    def shots(self) -> int:
        """How many shots the prompt describes, at least one."""
        return max(1, len(self.shot_ranges))

    def rows(self, shot: int) -> tuple[int, ...]:
        """Return the text rows, ascending in 0 … 511, that shot `shot` (from 0) sees.

        The global caption and the shot's own, both with their range's end included, and the padding. An
        end lies at most at row 511, because the end-of-sequence token follows every caption.
        """
        own = self.shot_ranges[shot] if self.shot_ranges else self.global_range
        padding = max(end for _, end in (self.global_range, *self.shot_ranges)) + 1
        seen = {*_through(self.global_range), *_through(own), *range(padding, TEXT_ROWS)}
        return tuple(sorted(seen))


@dataclass(frozen=True)
class Prompt:
    """A prompt that fits: its cleaned text, its token ids, who sees what (None: everyone all), its shots.

    `relay` are the tokens of the shots' captions, ``(first, last + 1)``, where all see them, but less from afar.
    """

    text: str
    ids: tuple[int, ...]
    windows: Windows | None
    shots: int
    relay: tuple[Range, ...] | None = None


class PromptTokenizer:
    """The umt5 tokenizer. Raises `CheckpointError` when its file is missing, damaged or another model's."""

    def __init__(self, path: Path) -> None:
        self._path, self._tokenizer = path, open_tokenizer(path)
        # Whatever the file is configured to, a long prompt must be noticed and not quietly shortened.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        if self.encode("").ids != (EOS_ID,):
            raise CheckpointError(f"{path}: is not the umt5 tokenizer; use tokenizer.json of google/umt5-xxl")

    def encode(self, cleaned: str) -> TokenizedPrompt:
        """Tokenise a cleaned prompt of any length, the end-of-sequence token (id 1) included."""
        with _damage_named(self._path):
            encoding = self._tokenizer.encode(cleaned)
        return TokenizedPrompt(tuple(encoding.ids), tuple(encoding.offsets))


def token_windows(tokenized: TokenizedPrompt, spans: CaptionSpans) -> Windows:
    """Turn character spans into token ranges.

    A token belongs to the first span that its characters overlap, one without characters to none.
    Raises `PromptError` when a shot gets no token at all.
    """
    ordered = (spans.global_span, *spans.shot_spans)
    ends = [end for _, end in ordered]
    ranges: dict[int, Range] = {}
    for token, (start, end) in enumerate(tokenized.offsets):
        span = bisect_right(ends, start)  # the first span that ends behind the token's start
        if start < end and span < len(ordered) and ordered[span][0] < end:
            first, _ = ranges.get(span, (token, token))
            ranges[span] = (first, token + 1)
    for span in range(len(ordered)):
        if span not in ranges:
            raise PromptError(f"{_caption(span)} yields no token of its own; put a word after its tag")
    return Windows(ranges[0], tuple(ranges[span] for span in range(1, len(ordered))))


def read_prompt(text: str, tokenizer: PromptTokenizer) -> Prompt:
    """Clean and tokenise a prompt, and find its windows.

    Raises `PromptError` as `caption_spans` and `token_windows` do, and for more than 512 tokens.
    """
    cleaned = clean(text)
    spans = caption_spans(cleaned)
    tokenized = tokenizer.encode(cleaned)
    windows = token_windows(tokenized, spans) if spans else None
    _check_length(len(tokenized.ids), windows)
    return Prompt(cleaned, tokenized.ids, windows, windows.shots if windows else 1)


def read_captions(scene: str, captions: Sequence[str], tokenizer: PromptTokenizer) -> Prompt:
    """Tokenise a scene and the captions of its shots as one text without tags, for a model that knows none.

    Raises `PromptError` for a caption that yields no token, and for more than 512 tokens.
    """
    text, spans = "", []
    for part in (clean(scene), *map(clean, captions)):
        start = len(text) + bool(text)
        text = f"{text} {part}".strip()
        spans.append((start, len(text)))
    tokenized = tokenizer.encode(text)
    if len(captions) == 1:
        _check_length(len(tokenized.ids), None)
        return Prompt(text, tokenized.ids, None, 1)
    windows = token_windows(tokenized, CaptionSpans(spans[0], tuple(spans[1:])))
    _check_length(len(tokenized.ids), windows)
    return Prompt(text, tokenized.ids, None, len(captions), windows.shot_ranges)


def _through(bounds: Range) -> range:
    """A range with its end included: the model was trained with this one row too many."""
    return range(bounds[0], bounds[1] + 1)


def _caption(span: int) -> str:
    """What a person calls a span: the global caption is the first, then shot 1, shot 2, …"""
    return f"shot {span}" if span else "the global caption"


def _check_length(tokens: int, windows: Windows | None) -> None:
    if tokens <= TEXT_ROWS:
        return
    cut = f", {_first_cut_off(windows)} is cut off first" if windows else ""
    raise PromptError(
        f"the prompt has {tokens} tokens, the limit is {TEXT_ROWS}{cut}; "
        f"shorten it by {tokens - TEXT_ROWS} tokens, about {tokens - TEXT_ROWS} short words"
    )


def _first_cut_off(windows: Windows) -> str:
    """Name the first caption that would lose a token: the last of the 512 rows is the end of the sequence."""
    ends = [end for _, end in (windows.global_range, *windows.shot_ranges)]
    return _caption(next((span for span, end in enumerate(ends) if end >= TEXT_ROWS), len(ends) - 1))


def open_tokenizer(path: Path) -> Tokenizer:
    """Open a tokenizer.json, whosever it is. Raises `CheckpointError` for a missing or damaged file."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; it is tokenizer.json of google/umt5-xxl")
    with _damage_named(path):
        return Tokenizer.from_file(str(path))


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn what the library makes of a damaged file into one line: it raises nothing narrow, and panics."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        raise CheckpointError(f"{path}: is not a tokenizer file or is damaged; download it again") from error
