"""What it means that an endpoint refuses, in one line: by the status of HTTP, and by what it says."""

from __future__ import annotations

from holo_lite.errors import WritingError, in_a_line
from holo_lite.writing.endpoint import Endpoint
from holo_lite.writing.talk import UnknownFormError

UNKNOWN = (400, 422, 501)  # how servers say that they do not know a parameter
REFUSES_KEY = (401, 403)


def refusal(endpoint: Endpoint, status: int, body: object, location: str, *, has_form: bool) -> WritingError:
    """The error for an answer with a status of 300 or more.

    body: what came, as JSON where it was that; location: where it leads; has_form: an answer in a form was asked.
    """
    why = endpoint.without_key(_reason(body))
    said = f"(HTTP {status}: {why})" if why else f"(HTTP {status})"
    if has_form and status in UNKNOWN:
        return UnknownFormError(f"{endpoint.url}: refuses what is asked {said}")
    if 300 <= status < 400:
        to = endpoint.without_key(in_a_line(ValueError(location or "elsewhere")))
        return WritingError(f"{endpoint.url}: leads to {to}, which is not followed; if you trust that, name it")
    return WritingError(f"{endpoint.url}: {_meaning(endpoint, status, said)}")


def _meaning(endpoint: Endpoint, status: int, said: str) -> str:
    if status in REFUSES_KEY:
        return f"{'refuses the' if endpoint.key else 'asks for a'} key {said}; set HOLO_LITE_WRITE_KEY"
    if status == 404:
        return f"not found {said}; check the address, which usually ends in /v1, and the model's name"
    if status == 429 or status >= 500:
        return f"is busy or has trouble {said}; try again later"
    return f"refuses what is asked {said}; try another model with --llm"


def _reason(body: object) -> str:
    """What is given as the reason; nothing where that is no line for a person."""
    said = body.get("error", body) if isinstance(body, dict) else body
    said = said.get("message") if isinstance(said, dict) else said
    if not isinstance(said, str) or not said.strip() or said.lstrip().startswith("<"):
        return ""
    return in_a_line(ValueError(said))
