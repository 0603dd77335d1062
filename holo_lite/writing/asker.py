"""Asking an endpoint: its model's name, and one question after the other, all within one patience."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from holo_lite.errors import WritingError, first_three
from holo_lite.writing.endpoint import Endpoint
from holo_lite.writing.patience import Patience, patiently
from holo_lite.writing.talk import Message, Piece

if TYPE_CHECKING:
    from holo_lite.writing.chat import Chat

T = TypeVar("T")


class Asker:
    """Asks an endpoint. Raises `WritingError` where the package for it is missing."""

    def __init__(self, endpoint: Endpoint, patience: Patience) -> None:
        self._endpoint, self._patience, self._kind = endpoint, patience, _chat()

    def model(self) -> str:
        """The model that is named, or the only one there is. Raises `WritingError` for none or several."""
        if self._endpoint.llm is not None:
            return self._endpoint.llm
        names = [*self._ask(lambda chat: chat.models())]
        if len(names) == 1:
            return names[0]
        has = f"has {len(names)} models, such as {first_three(names)}" if names else "names no model"
        raise WritingError(f"{self._endpoint.url}: {has}; choose one with --llm")

    def answer(
        self, llm: str, question: Sequence[Message], form: Mapping[str, Any] | None
    ) -> Generator[Piece, None, None]:
        """The answer to a question, in pieces as they come; closing this ends it. Raises as `patiently`."""
        return self._ask(lambda chat: chat.answer(llm, question, form))

    def _ask(self, what: Callable[[Chat], Iterable[T]]) -> Generator[T, None, None]:
        self._patience.check(self._endpoint.url)
        chat = self._kind(self._endpoint, self._patience.left)
        return patiently(lambda: what(chat), chat.cut, self._patience, self._endpoint.url)


def _chat() -> type[Chat]:
    try:
        from holo_lite.writing.chat import Chat
    except ImportError:
        raise WritingError(
            "writing needs the package openai, 3.57 or later (holo-lite[write]); type: python -m pip install "
            "--upgrade openai"
        ) from None
    return Chat
