"""An answer looked at: what the schema, the storyboard and `check` find in it, as lines that go back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from holo_lite.errors import PromptError, StoryboardError
from holo_lite.preflight.check import CheckReport, check_storyboard
from holo_lite.story.storyboard import Storyboard
from holo_lite.text.windows import PromptTokenizer, read_prompt
from holo_lite.writing.answer import LONGEST_ANSWER, Answer, as_storyboard, read_answer
from holo_lite.writing.wanted import Wanted


@dataclass(frozen=True)
class Written:
    """A storyboard that can be made, and what was found in it."""

    board: Storyboard
    report: CheckReport
    found: tuple[str, ...]


@dataclass(frozen=True)
class Judged:
    """What became of an answer: as far as it could be read, and what was found, nothing if it is good."""

    found: tuple[str, ...]
    answer: Answer | None = None
    written: Written | None = None


def judge(text: str, wanted: Wanted, tokenizer: PromptTokenizer | None) -> Judged:
    """Look at an answer. What is wrong with it is what is found, and goes back.

    Raises `CheckpointError` for a damaged tokenizer, which is nobody else's business.
    """
    if len(text) > LONGEST_ANSWER:
        return Judged((f"the answer is longer than {LONGEST_ANSWER} characters",))
    try:
        answer = read_answer(text)
    except ValueError as error:
        return Judged((str(error),))
    try:
        board = as_storyboard(answer, wanted)
        report = check_storyboard(board, tokenizer=tokenizer)
    except (StoryboardError, PromptError) as error:
        return Judged((str(error),), answer)
    found = (*_found(board, report, wanted), *_too_long(board, tokenizer))
    return Judged(found, answer, Written(board, report, found))


def _found(board: Storyboard, report: CheckReport, wanted: Wanted) -> Iterator[str]:
    if board.shot_count != wanted.shots:
        yield f"number of shots: there are {board.shot_count}, and {wanted.shots} were asked for"
    yield from (f"{each.rule}: {each.message}" for each in report.findings if not each.is_note)


def _too_long(board: Storyboard, tokenizer: PromptTokenizer | None) -> tuple[str, ...]:
    """What a run would refuse, where tokens can be counted."""
    if tokenizer is None:
        return ()
    try:
        read_prompt(board.prompt, tokenizer)
    except PromptError as error:
        return (f"long text: {error}",)
    return ()
