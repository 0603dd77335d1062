"""The package `openai`: the one module that knows it. It is imported where it is needed.

What the package would do of itself, and what is done about it here:

- It tries again twice, and follows redirects with everything it was to send: both are off.
- It adds the system, its version and keys, headers and addresses of other services from the environment
  (``OPENAI_…``): `Wire` sends only those headers that HTTP needs, and the key of this endpoint.
- It takes lines and answers of any length, and unpacks them: `Wire` counts what comes, and refuses what is packed.
- It believes what comes: everything taken from an answer is looked at first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx2
import openai

from holo_lite.errors import WritingError, in_a_line
from holo_lite.writing.endpoint import LONGEST_NAME, Endpoint
from holo_lite.writing.refusals import refusal
from holo_lite.writing.talk import Message, Piece
from holo_lite.writing.wire import Wire

CONNECTING = 20.0  # seconds
LATER = 60.0  # seconds: whoever waits ends it at the deadline and says so; this is for a reader left behind
MOST_MODELS = 10_000
NO_KEY = "none"  # the package wants one; it is not sent
THOUGHTS = ("reasoning_content", "reasoning")  # where servers put what a model thinks first
CHECK = "check the address, which usually ends in /v1"
LOOK = "see what its server says"
STRANGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class Chat:
    """One question to an endpoint, within so many seconds, read in a thread of its own; `cut` ends it from any.

    Raises `WritingError`, with the endpoint's address, for everything that can go wrong.
    """

    def __init__(self, endpoint: Endpoint, seconds: float) -> None:
        self._endpoint = endpoint
        with self._told():
            self._wire = Wire(endpoint)
            http = httpx2.Client(transport=self._wire, trust_env=False, follow_redirects=False)
            self._client = openai.OpenAI(
                api_key=NO_KEY,
                base_url=endpoint.url,
                max_retries=0,
                timeout=httpx2.Timeout(seconds + LATER, connect=CONNECTING),
                http_client=http,
            )

    def models(self) -> Iterator[str]:
        """The names of the endpoint's models."""
        with self._told(), self._client:
            found: Any = self._client.models.list()
            for model in (found.data or ())[:MOST_MODELS]:
                if isinstance(model.id, str) and 0 < len(model.id) <= LONGEST_NAME:
                    yield model.id

    def answer(self, llm: str, messages: Sequence[Message], form: Mapping[str, Any] | None) -> Iterator[Piece]:
        """The answer, piece by piece, kept to a JSON schema if one is given and the endpoint can.

        Raises `UnknownFormError` where it says that it cannot.
        """
        asked: dict[str, Any] = {"model": llm, "messages": list(messages), "stream": True}
        if form is not None:
            asked["response_format"] = form
        client, chunk = self._client, None
        with self._told(has_form=form is not None), client, client.chat.completions.create(**asked) as stream:
            for chunk in stream:
                yield from _pieces(chunk)
            if chunk is None:
                raise WritingError(f"{self._endpoint.url}: answers with nothing; {CHECK}")

    def cut(self) -> None:
        """End the connection, now or as soon as there is one."""
        self._wire.cut()

    @contextmanager
    def _told(self, *, has_form: bool = False) -> Iterator[None]:
        """Say in one line what the endpoint, or the way to it, answers with."""
        where = self._endpoint.url
        try:
            yield
        except openai.APIStatusError as error:
            location = error.response.headers.get("location", "")
            raise refusal(self._endpoint, error.status_code, error.body, location, has_form=has_form) from None
        except openai.APITimeoutError:
            raise WritingError(f"{where}: does not answer; check that a server runs there") from None
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, httpx2.ConnectError):
                why = self._reason(error.__cause__)
                raise WritingError(f"{where}: cannot be reached{why}; check that a server runs there") from None
            raise WritingError(f"{where}: broke off{self._reason(error.__cause__ or error)}; {LOOK}") from None
        except openai.APIError as error:
            raise WritingError(f"{where}: broke off{self._reason(error)}; {LOOK}") from None
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL, ImportError, OSError) as error:
            raise WritingError(f"{where}: cannot be asked{self._reason(error)}; {CHECK}") from None
        except STRANGE:
            raise WritingError(f"{where}: does not answer like an OpenAI-compatible server; {CHECK}") from None

    def _reason(self, error: BaseException) -> str:
        """What is behind an error, in brackets."""
        return f" ({self._endpoint.without_key(in_a_line(error))})"


def _pieces(chunk: Any) -> Iterator[Piece]:
    """What a part of a streamed answer says. Raises one of `STRANGE` for what is none."""
    for choice in chunk.choices[:1] if chunk.choices else ():
        if choice.delta is None:
            continue
        thoughts = [getattr(choice.delta, name, None) for name in THOUGHTS]
        thought = next((each for each in thoughts if isinstance(each, str)), "")
        if thought:
            yield Piece(thought, is_thought=True)
        if isinstance(choice.delta.content, str) and choice.delta.content:
            yield Piece(choice.delta.content)
