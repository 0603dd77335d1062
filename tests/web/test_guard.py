"""Nobody but the person who started the server may ask: tried as other pages and other users would."""

import asyncio

import pytest
from page_stage import COOKIE, HOST, TOKEN, app, client, renderers, workspace  # noqa: F401 - fixtures
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

JSON = {"content-type": "application/json", "x-holo": "1"}
NAVIGATES = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


@pytest.fixture
def stranger(app):
    return TestClient(app, base_url=f"http://{HOST}", follow_redirects=False)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.test:8088"},
        {"host": "127.0.0.1:8089"},
        {"host": "127.0.0.1"},
        {"host": "localhost.evil.test:8088"},
        {"host": "127.0.0.1:8088@evil.test"},
        {"origin": "http://evil.test"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "https://127.0.0.1:8088"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/events", "/static/app.js", "/api/files"])
def test_other_pages_and_other_names_are_refused(client, headers, path):
    assert client.get(path, headers=headers).status_code == 403


def test_two_host_headers_are_refused(app):
    answers = []

    async def send(message):
        answers.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "http_version": "1.1"}
    scope["headers"] = [
        (b"host", HOST.encode()),
        (b"host", b"evil.test"),
        (b"cookie", f"{COOKIE}={TOKEN}".encode()),
    ]

    asyncio.run(app(scope, None, send))
    assert answers[0]["status"] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain", "x-holo": "1"},
        {"content-type": "application/x-www-form-urlencoded", "x-holo": "1"},
        {"content-type": "multipart/form-data; boundary=x", "x-holo": "1"},
        {"content-type": "application/json"},
        {},
    ],
)
def test_no_form_of_any_page_changes_anything(app, headers, workspace):
    rev = workspace.board()["rev"]
    stranger = TestClient(app, base_url=f"http://{HOST}")
    stranger.cookies.set(COOKIE, TOKEN)
    answer = stranger.post("/api/board", content=b'{"op": "add"}', headers=headers)
    assert answer.status_code == 403
    assert workspace.board()["rev"] == rev


def test_a_link_from_elsewhere_may_open_the_page_and_nothing_else(client):
    assert client.get("/", headers=NAVIGATES).status_code == 200
    assert client.get("/api/files", headers=NAVIGATES).status_code == 403


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/events", "/api/files", "/gallery/x/video"])
def test_without_the_cookie_there_is_nothing_to_see(stranger, path):
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert "printed" in answer.json()["error"]


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "t", "\u00e9" * 43])
def test_a_wrong_token_gives_no_cookie(stranger, token):
    answer = stranger.get("/", params={"token": token})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_the_printed_address_gives_a_cookie_that_no_script_and_no_other_page_has(stranger):
    answer = stranger.get("/", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert stranger.get("/").status_code == 200


def test_the_token_does_not_open_anything_but_the_page(stranger):
    assert stranger.get("/api/files", params={"token": TOKEN}).status_code == 401
    assert stranger.post("/", params={"token": TOKEN}, json={}, headers=JSON).status_code == 401


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/files", "/nothing"])
def test_every_answer_keeps_scripts_of_others_out(client, path):
    answer = client.get(path)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_web_sockets_are_closed(client):
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/api/events"):
        pass


def test_cookies_that_are_none_are_no_error(app):
    stranger = TestClient(app, base_url=f"http://{HOST}")
    for text in ("", "a", '"', "holo-lite-8088", "=;=;=", "\x7f"):
        assert stranger.get("/", headers={"cookie": text}).status_code == 401
