"""A draft as it is seen: its timeline, its tokens, and what `check` finds, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from holo_lite.config import Defaults
from holo_lite.errors import HoloError
from holo_lite.preflight.check import CheckReport, check_storyboard
from holo_lite.preflight.rules import CheckFinding
from holo_lite.text.windows import PromptTokenizer
from holo_lite.web.draft import Draft, first_frame
from holo_lite.web.storyboards import Shelves, options_of, storyboard_of

Counter = Callable[[], PromptTokenizer | None]


def look(draft: Draft, rev: int, shelves: Shelves, tokenizer: Counter) -> dict[str, Any]:
    """The record of a look at a draft."""
    found: dict[str, Any] = {"rev": rev, "tokens": None, "findings": [], "error": None}
    try:
        model = shelves.model(draft)
        defaults = model.defaults
        board, options = storyboard_of(draft, shelves), options_of(draft)
        report = check_storyboard(
            board, options, defaults=defaults, tokenizer=tokenizer(), attention=model.attention
        )
    except HoloError as error:
        return {**found, **_lengths(draft, Defaults()), "error": str(error)}
    return {**found, **_lengths(draft, defaults), **_seen(draft, report)}


def _meant(draft: Draft, finding: CheckFinding) -> list[str | None]:
    """The shots that a finding is about; None stands for all of them."""
    shots = [draft.shots[number - 1].id for number in finding.shots if number <= len(draft.shots)]
    return [*shots] or [None]


def _lengths(draft: Draft, defaults: Defaults) -> dict[str, Any]:
    """What follows from the draft alone, right or wrong."""
    fps = draft.settings.fps or defaults.fps
    edges = [*draft.starts, draft.latents]
    shots = []
    for shot, begin, end in zip(draft.shots, edges, edges[1:], strict=False):
        first, last = first_frame(begin), first_frame(end)
        seconds = (last - first) / fps
        shots.append(
            {"id": shot.id, "first": first, "end": last, "seconds": seconds, "tokens": None, "findings": []}
        )
    size = {name: getattr(draft.settings, name) or getattr(defaults, name) for name in ("width", "height")}
    return {"frames": draft.frames, "seconds": draft.frames / fps, "fps": fps, **size, "shots": shots}


def _seen(draft: Draft, report: CheckReport) -> Mapping[str, Any]:
    """What `check` says, beside the shots it is about."""
    findings = [
        {"level": "note" if each.is_note else "warning", "text": each.message, "shot": shot}
        for each in report.findings
        for shot in _meant(draft, each)
    ]
    shots = [
        {
            "id": shot.id,
            "first": line.first,
            "end": line.end,
            "seconds": line.seconds,
            "tokens": line.tokens,
            "findings": [each["text"] for each in findings if each["shot"] == shot.id],
        }
        for shot, line in zip(draft.shots, report.shots, strict=True)
    ]
    tokens = report.tokens
    counted = tokens and {"total": tokens.total, "shared": tokens.shared, "limit": tokens.limit}
    size = {"frames": report.frames, "seconds": report.frames / report.fps, "fps": report.fps}
    return {
        **size,
        "height": report.height,
        "width": report.width,
        "shots": shots,
        "tokens": counted,
        "findings": findings,
    }
