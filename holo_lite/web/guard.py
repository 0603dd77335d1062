"""Who may ask: the person who started the server, from a page of this server, and nobody else.

    Host            one of our own names, or a page elsewhere has bound its name to this machine (DNS rebinding)
    Origin          none, or ours: no other page may post
    Sec-Fetch-Site  none, or same-origin: no other page may show our pictures and videos
    cookie          the token of the printed address: every user of a machine can reach its loopback addresses
    Content-Type    no form of any page can send JSON or a picture's type

The raw headers are compared. Frameworks build addresses from them, and have been wrong about it before.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE = frozenset({"GET", "HEAD"})
MARK = "x-holo"  # of every request that changes something: a header that no form can send
BODIES = ("application/json", "image/")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
    "connect-src 'self'; worker-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
ANSWERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """ASGI middleware. `names` are the hosts, with ports, that are ours; `token` is in the printed address."""

    def __init__(self, app: ASGIApp, names: Iterable[str], token: str, cookie: str) -> None:
        self._app, self._names, self._token, self._cookie = app, frozenset(names), token, cookie
        self._origins = frozenset(f"http://{name}" for name in self._names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it in one line."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(ANSWERS)
            await send(message)

        headers = Headers(scope=scope)
        if why := self._refusal(scope, headers):
            await JSONResponse({"error": why}, status_code=403)(scope, receive, answered)
        elif self._is_known(headers):
            await self._app(scope, receive, answered)
        else:
            await self._strange(scope)(scope, receive, answered)

    def _refusal(self, scope: Scope, headers: Headers) -> str:
        """Why a request is none of ours; nothing if it is."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._names:
            return "this address is not the one that was printed"
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins:
            return "another page may not ask"
        opens = scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"} and not opens:
            return "another page may not ask"
        if scope["method"] in SAFE:
            return ""
        if headers.get(MARK) is None or not headers.get("content-type", "").startswith(BODIES):
            return "no form may ask"
        return ""

    def _is_known(self, headers: Headers) -> bool:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return morsel is not None and _same(morsel.value, self._token)

    def _strange(self, scope: Scope) -> ASGIApp:
        """The answer to somebody without the cookie: it, for the token."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["method"] == "GET" and scope["path"] == "/" and _same(given, self._token):
            answer = RedirectResponse("/", status_code=303)
            answer.set_cookie(self._cookie, self._token, max_age=400 * 86400, httponly=True, samesite="strict")
            return answer
        return JSONResponse(
            {"error": "open the address that was printed where the page was started"}, status_code=401
        )


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
