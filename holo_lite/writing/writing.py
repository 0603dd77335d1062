"""From an idea to a storyboard: asked for, looked at, asked for again with what was found, three times at most."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from holo_lite.cancel import Cancel
from holo_lite.errors import SettingsError, WritingError
from holo_lite.progress import Note
from holo_lite.reading import values
from holo_lite.text.windows import PromptTokenizer
from holo_lite.writing.answer import LONGEST_ANSWER, form
from holo_lite.writing.asker import Asker
from holo_lite.writing.asking import first_question, next_question
from holo_lite.writing.endpoint import Endpoint
from holo_lite.writing.events import (
    AnswerGrew,
    Connecting,
    StoryboardWritten,
    TryJudged,
    TryStarted,
    WritingEvent,
)
from holo_lite.writing.judging import Judged, Written, judge
from holo_lite.writing.patience import Patience
from holo_lite.writing.talk import Message, UnknownFormError
from holo_lite.writing.wanted import Wanted

TRIES = 3
USUAL_TIMEOUT, LONGEST_TIMEOUT = 600.0, 86_400.0  # seconds for all tries together

Events = Generator[WritingEvent, None, None]
Form = Mapping[str, Any] | None


def write_storyboard(
    idea: str,
    shots: int,
    seconds: float,
    endpoint: Endpoint,
    tokenizer: PromptTokenizer | None = None,
    cancel: Cancel | None = None,
    *,
    timeout: float = USUAL_TIMEOUT,
) -> Events:
    """Have a language model write a storyboard of so many shots and seconds, and yield what happens.

    The last event is `StoryboardWritten`. Nothing is sent before `Connecting` has been yielded, and then only the
    idea, the wanted shots and length, and the model's own last answer with what was found in it. Tokens are counted
    if there is a tokenizer. All of it ends `timeout` seconds after it began, or when somebody cancels; closing it
    ends it, too.

    Raises `SettingsError` for an order that cannot be, `WritingError` if no storyboard comes of it, `Cancelled`,
    `CheckpointError` for a damaged tokenizer.
    """
    task = Task(Wanted(idea, shots, seconds), endpoint, tokenizer, Patience(_timeout(timeout), cancel or Cancel()))
    return _written(task)


@dataclass(frozen=True)
class Task:
    """What is written, by whom, within which patience."""

    wanted: Wanted
    endpoint: Endpoint
    tokenizer: PromptTokenizer | None
    patience: Patience


def _written(task: Task) -> Events:
    asker, best = Asker(task.endpoint, task.patience), None
    yield Connecting(task.endpoint.route)
    llm, question = asker.model(), first_question(task.wanted)
    try:
        for number in range(1, TRIES + 1):
            yield TryStarted(number, TRIES, llm)
            judged = yield from _try(task, asker, llm, question)
            yield TryJudged(number, judged.found)
            best = _better(best, judged.written)
            if not judged.found:
                break
            question = _again(task.wanted, judged)
    except WritingError as error:
        if best is None:
            raise
        yield Note(f"{error}; what came before is kept")
    yield _told(task.endpoint, best, judged)


def _try(task: Task, asker: Asker, llm: str, question: Sequence[Message]) -> Generator[WritingEvent, None, Judged]:
    """Ask, in a form if the endpoint knows that, and look at the answer."""
    try:
        text = yield from _answer(asker, llm, question, form(task.wanted))
    except UnknownFormError:
        text = yield from _answer(asker, llm, question, None)
    return judge(text, task.wanted, task.tokenizer)


def _answer(asker: Asker, llm: str, question: Sequence[Message], form: Form) -> Generator[WritingEvent, None, str]:
    """The text of an answer: whole, or a little longer than any that is of use."""
    text = ""
    with closing(asker.answer(llm, question, form)) as pieces:
        for piece in pieces:
            yield AnswerGrew(piece.text[:LONGEST_ANSWER], piece.is_thought)
            text += "" if piece.is_thought else piece.text
            if len(text) > LONGEST_ANSWER:
                break
    return text


def _again(wanted: Wanted, judged: Judged) -> tuple[Message, ...]:
    """What is asked after an answer that was not good."""
    if judged.answer is None:
        return first_question(wanted, judged.found[0])
    return next_question(wanted, judged.answer, judged.found)


def _better(one: Written | None, other: Written | None) -> Written | None:
    """The one in which less was found; of equal ones the later."""
    if one is None or other is None:
        return other or one
    return one if len(one.found) < len(other.found) else other


def _told(endpoint: Endpoint, best: Written | None, last: Judged) -> StoryboardWritten:
    """The last event. Raises `WritingError` if no answer could be used."""
    if best is None:
        raise WritingError(
            f"{endpoint.url}: no answer of {TRIES} could be used ({last.found[0]}); try another model with --llm"
        )
    return StoryboardWritten(best.board, best.report, best.found)


def _timeout(seconds: float) -> float:
    seconds = values.real("timeout", seconds)
    if not 1 <= seconds <= LONGEST_TIMEOUT:
        raise SettingsError(f"timeout {seconds:g}: give 1 to {LONGEST_TIMEOUT:g} seconds")
    return seconds
