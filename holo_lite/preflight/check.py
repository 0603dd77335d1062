"""A storyboard before it is rendered: its shots in frames, seconds and tokens, and what the rules find.

Needs a tokenizer at most, and no weights.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holo_lite.config import TEXT_ROWS, Attention, Defaults
from holo_lite.preflight.rules import CheckFinding, count_words, findings, long_text
from holo_lite.sampling.frozen_shots import as_named
from holo_lite.settings import Options, RunSettings, check_options, resolve
from holo_lite.story.files import AnyStoryboard, as_storyboard
from holo_lite.story.prompt import caption_spans, clean
from holo_lite.story.shots import FRAMES_PER_LATENT
from holo_lite.story.storyboard import Storyboard
from holo_lite.story.timeline import resolve_timeline
from holo_lite.text.windows import PromptTokenizer, token_windows
from holo_lite.weights.folder import ModelFolder

# no bearing on a storyboard
NOT_DECIDED: Mapping[str, Any] = {"dtype": "", "device": "", "model": ""}


@dataclass(frozen=True)
class ShotLine:
    """A shot as it will be made.

    Frames count from 0, `end` excluded, `asked` being the first frame before it was rounded (None: not given);
    `seconds` is its length; `tokens` are those of its own caption and tag (None: not counted).
    """

    number: int
    first: int
    end: int
    asked: int | None
    latent_frames: int
    seconds: float
    tokens: int | None
    caption: str

    @property
    def frames(self) -> int:
        """Its length in video frames."""
        return self.end - self.first


@dataclass(frozen=True)
class Tokens:
    """Tokens of the prompt: all, the closing one included, and those of the global caption and its tag.

    `memory` are those of the shots that are not shown.
    """

    total: int
    shared: int
    shots: tuple[int, ...]
    limit: int = TEXT_ROWS
    memory: int = 0


@dataclass(frozen=True)
class CheckReport:
    """What `check` shows. `asked` is the length in frames before it was rounded, `words` about how
    many the prompt has, `memory` how many shots the model sees that are not shown.
    """

    title: str | None
    frames: int
    asked: int
    fps: float
    height: int
    width: int
    shots: tuple[ShotLine, ...]
    tokens: Tokens | None
    words: int
    findings: tuple[CheckFinding, ...]
    memory: int = 0

    def to_json(self) -> str:
        """Write the report as JSON on one line."""
        found = dataclasses.asdict(self)
        for each, row in zip(self.findings, found["findings"], strict=True):
            row["level"] = "note" if each.is_note else "warning"
        return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def check_storyboard(
    board: AnyStoryboard,
    options: Options = Options(),  # noqa: B008
    *,
    defaults: Defaults = Defaults(),  # noqa: B008
    tokenizer: PromptTokenizer | None = None,
    attention: Attention = "sparse",
) -> CheckReport:
    """Look at a storyboard as a run with these options would take it; without a tokenizer, tokens are not counted.

    `board` may also be a prompt or a path; `attention` is the model's.

    A prompt of too many tokens is only reported; `read_prompt` refuses it. Raises `StoryboardError`,
    `SettingsError` or `PromptError` for what no run could be made of.
    """
    board = as_storyboard(board)
    check_options(options)
    settings, _ = resolve(board, options, defaults, frozen=as_named(board), attention=attention, **NOT_DECIDED)
    timeline = resolve_timeline(
        board, default_frames=defaults.frames, fps=settings.fps, frames=options.frames, cuts=options.cuts
    )
    tokens = count_tokens(board, tokenizer, attention) if tokenizer else None
    return CheckReport(
        title=board.title,
        frames=settings.shown.num_frames,
        asked=timeline.asked[0],
        fps=settings.fps,
        height=settings.height,
        width=settings.width,
        shots=_shots(settings, timeline.asked, tokens),
        tokens=tokens,
        words=count_words(board),
        findings=(*findings(board, settings.shown), *(() if tokens else long_text(board))),
        memory=len(board.memory),
    )


def count_tokens(board: Storyboard, tokenizer: PromptTokenizer, attention: Attention = "sparse") -> Tokens:
    """Count the tokens of each caption as the model will window them. Raises `PromptError`."""
    cleaned = clean(board.untagged if attention == "wan" else board.prompt)
    spans, tokenized = caption_spans(cleaned), tokenizer.encode(cleaned)
    if spans is None:
        return Tokens(len(tokenized.ids), len(tokenized.ids) - 1, ())
    windows = token_windows(tokenized, spans)
    shared, *shots = (end - first for first, end in (windows.global_range, *windows.shot_ranges))
    memory = len(board.memory)
    return Tokens(len(tokenized.ids), shared, tuple(shots[memory:]), memory=sum(shots[:memory]))


def tokenizer_of(folder: ModelFolder | None, file: Path | None) -> PromptTokenizer | None:
    """The tokenizer to count with: of a file, else of a model, else none. Raises `CheckpointError`."""
    path = file or (folder.tokenizer if folder else None)
    return PromptTokenizer(path) if path else None


def named_model(path: Path | None, attention: Attention | None = None) -> ModelFolder | None:
    """A model's folder, if one is named. Raises `CheckpointError`."""
    if path is None:
        return None
    from holo_lite.opening.checks import find_model  # PyTorch, which a storyboard alone need not wait for

    return find_model(path, attention)


def _shots(settings: RunSettings, before: tuple[int, ...], tokens: Tokens | None) -> tuple[ShotLine, ...]:
    captions, timeline, fps = settings.shown_captions, settings.shown, settings.fps
    asked = (None, *(before[1:] or [None] * len(timeline.cuts)))
    counts = tokens.shots if tokens and tokens.shots else [None] * len(captions)
    return tuple(
        ShotLine(
            number=number,
            first=first,
            end=end,
            asked=begin,
            latent_frames=-(-(end - first) // FRAMES_PER_LATENT),
            seconds=(end - first) / fps,
            tokens=count,
            caption=caption,
        )
        for number, (caption, (first, end), begin, count) in enumerate(
            zip(captions, timeline.shot_frames, asked, counts, strict=True), start=1
        )
    )
