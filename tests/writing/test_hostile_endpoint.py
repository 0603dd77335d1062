"""Endpoints that are broken or mean it: each ends in one line, soon enough, and nobody learns the key from it."""

import socket
import threading
from contextlib import contextmanager, suppress

import pytest
from chat_server import DONE, STREAM, Said, chat_server, delta, event, refused, said
from guard import HANGS

from holo_lite.cancel import Cancel, Cancelled
from holo_lite.errors import WritingError
from holo_lite.writing import chat as chat_module, wire
from holo_lite.writing.answer import LONGEST_ANSWER
from holo_lite.writing.endpoint import Endpoint
from holo_lite.writing.events import AnswerGrew, TryStarted
from holo_lite.writing.writing import write_storyboard

KEY = "sk-very-secret"
HTML = (("Content-Type", "text/html"),)


def fault(answer, llm="m"):
    """The line in which asking for a storyboard ends, without the address, and the server."""
    with chat_server(answer) as chat, pytest.raises(WritingError) as caught:
        [*write_storyboard("a road", 2, 10, Endpoint(chat.url, llm, KEY), timeout=HANGS)]
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert len(line) < 400
    assert KEY not in line
    return line.removeprefix(f"{chat.url}: "), chat


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (
            refused(401, f"Incorrect key {KEY}"),
            "refuses the key (HTTP 401: Incorrect key …); set HOLO_LITE_WRITE_KEY",
        ),
        (refused(403), "refuses the key (HTTP 403: no); set HOLO_LITE_WRITE_KEY"),
        (refused(404, b"<html>not here"), "not found (HTTP 404); check the address, which usually ends in /v1"),
        (refused(404, "model 'm' not found"), "not found (HTTP 404: model 'm' not found)"),
        (refused(400, "too long"), "refuses what is asked (HTTP 400: too long); try another model with --llm"),
        (refused(413, b"5"), "refuses what is asked (HTTP 413); try another model"),
        (refused(429), "is busy or has trouble (HTTP 429: no); try again later"),
        (refused(500, "a\nb\x1b[2J"), "is busy or has trouble (HTTP 500: a); try again later"),
        (refused(503, b"[" * 100_000), "is busy or has trouble (HTTP 503"),
        (refused(500, b'{"error": {"message": {"a": 1}}}'), "is busy or has trouble (HTTP 500); try again later"),
        (refused(500, b"\xff\xfe"), "is busy or has trouble (HTTP 500"),
        (Said((b"x" * 50_000,), status=500, headers=HTML, endless=True), "is busy or has trouble (HTTP 500: xxx"),
        (Said((b"<html>",), headers=HTML), "answers with nothing; check the address"),
        (Said((DONE,)), "answers with nothing; check the address"),
        (Said((b"",), headers=()), "answers with nothing"),
        (Said((event([1, 2]),)), "does not answer like an OpenAI-compatible server; check the address"),
        (Said((event(5),)), "does not answer like an OpenAI-compatible server"),
        (Said((event({"choices": [7]}),)), "does not answer like an OpenAI-compatible server"),
        (Said((event({"choices": [{"delta": "x"}]}),)), "does not answer like an OpenAI-compatible server"),
        (Said((event(b"{nope"),)), "does not answer like an OpenAI-compatible server"),
        (Said((event(b"[" * 100_000),)), "does not answer like an OpenAI-compatible server"),
        (Said((event(b"1" * 100_000),)), "does not answer like an OpenAI-compatible server"),
        (Said((event(b"\xff\xfe"),)), "does not answer like an OpenAI-compatible server"),
        (
            Said((event({"error": {"message": f"no room {KEY}"}}),)),
            "broke off (no room …); see what its server says",
        ),
        (Said((event({"choices": "abc"}), DONE)), "does not answer like an OpenAI-compatible server"),
        (Said((delta(content={"a": 1}), delta(content=None), DONE)), "no answer of 3 could be used"),
        (Said((delta(content="{"),), cut=True), "broke off (peer closed connection"),
        (Said((), cut=True), "broke off (peer closed connection"),
    ],
)
def test_what_is_no_answer_is_one_line(answer, line):
    found, _ = fault(answer)
    assert found.startswith(line)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_is_sent_where_an_endpoint_leads(status):
    with chat_server(said("{}")) as other:
        found, chat = fault(refused(status, headers=(("Location", f"{other.url}/chat/completions?{KEY}"),)))
    expected = f"leads to {other.url}/chat/completions?…, which is not followed; if you trust that, name it"
    assert found == expected
    assert other.asked == []
    assert len(chat.asked) == 1


def test_nothing_is_tried_again_unasked():
    assert len(fault(refused(503, headers=(("Retry-After", "0"), ("x-should-retry", "true"))))[1].asked) == 1


@pytest.mark.parametrize(
    "endless",
    [
        b": nothing\n\n" * 1000,
        b"x" * 50_000,  # a line without an end
        event({"choices": []}) * 1000,
        delta(reasoning_content="hm " * 10_000),
    ],
)
def test_an_endless_answer_ends_after_so_many_bytes(endless, monkeypatch):
    monkeypatch.setattr(wire, "LARGEST_ANSWER", 2**18)
    found, chat = fault(Said((endless,), endless=True))
    assert found == "its answer does not end; try another model with --llm"
    assert chat.gone.wait(HANGS)


def test_endless_text_ends_after_so_many_characters_and_counts_as_a_try():
    sizes: list[int] = []

    def take(events):
        for each in events:
            if isinstance(each, TryStarted):
                sizes.append(0)
            elif isinstance(each, AnswerGrew):
                sizes[-1] += len(each.text)

    longer = pytest.raises(WritingError, match=f"the answer is longer than {LONGEST_ANSWER} characters")
    with chat_server(Said((delta(content="x" * 1000),), endless=True)) as chat, longer:
        take(write_storyboard("a road", 2, 10, Endpoint(chat.url, "m")))
    assert sizes == [66_000] * 3  # the first thousand above the bound
    assert len(chat.asked) == 3


def test_a_packed_answer_is_refused_before_it_is_unpacked():
    headers = (("Content-Type", STREAM), ("Content-Encoding", "gzip"))
    assert fault(Said((b"\x1f\x8b",), headers=headers))[0].startswith("sends a packed answer unasked")


def test_a_list_of_models_does_not_end_either(monkeypatch):
    monkeypatch.setattr(wire, "LARGEST_ANSWER", 2**18)
    with chat_server(said("{}")) as chat:
        chat.listing = Said((b" " * 50_000,), headers=(("Content-Type", "application/json"),), endless=True)
        with pytest.raises(WritingError, match="its answer does not end"):
            [*write_storyboard("a road", 2, 10, Endpoint(chat.url), timeout=HANGS)]


def test_nobody_at_home_is_one_line():
    with chat_server(said("{}")) as chat:
        pass
    with pytest.raises(WritingError, match=r"cannot be reached \(.*\); check that a server runs there"):
        [*write_storyboard("a road", 2, 10, Endpoint(chat.url, "m"))]


@pytest.mark.parametrize("proxy", ["gopher://127.0.0.1:9", "socks5://127.0.0.1:9", "http://a:b"])
def test_a_proxy_that_cannot_be_is_one_line(proxy, monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(WritingError, match="the proxy that HTTP_PROXY") as caught:
        [*write_storyboard("a road", 2, 10, Endpoint("http://models.invalid", "m"))]
    assert len(str(caught.value).splitlines()) == 1


def test_a_connection_is_cut_as_soon_as_there_is_one():
    """Whoever stops waiting while it is made would else leave a model that writes for nobody."""
    stall = threading.Event()
    with chat_server(Said((delta(content="{"),), stall=stall)) as chat:
        asked = chat_module.Chat(Endpoint(chat.url, "m"), HANGS)
        asked.cut()
        with pytest.raises(WritingError):
            [*asked.answer("m", [{"role": "user", "content": "a"}], None)]
    assert chat.questions == []


@contextmanager
def silent_server(talk):
    """A server that speaks no HTTP: `talk` has the connection, and whether it shall end. Gives its address."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                talk(connection, ended)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            ended.set()
            thread.join(HANGS)


def drip(connection, ended):
    """Headers, one a moment, for ever."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not ended.wait(0.02):
        connection.sendall(b"X-More: 1\r\n")


def babble(connection, _):
    while True:
        connection.sendall(b"X-More: " + b"1" * 10_000 + b"\r\n")


def test_headers_that_drip_end_with_the_deadline():
    with silent_server(drip) as url, pytest.raises(WritingError, match="nothing whole came within 1 s"):
        [*write_storyboard("a road", 2, 10, Endpoint(url, "m"), timeout=1)]


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x00" * 1000,
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_what_is_no_http_is_one_line(first):
    def talk(connection, ended):
        connection.sendall(first)
        if first.startswith(b"HTTP/1.1 200 OK\r\n") and not first.endswith(b"\r\n\r\n"):
            babble(connection, ended)

    with silent_server(talk) as url, pytest.raises(WritingError, match="broke off") as caught:
        [*write_storyboard("a road", 2, 10, Endpoint(url, "m"), timeout=HANGS)]
    assert len(str(caught.value).splitlines()) == 1


def test_a_name_that_is_looked_up_for_ever_ends_with_the_deadline_and_with_a_wish(monkeypatch):
    """No library can end a look-up: whoever waits for it in its own thread waits as long as the system does."""
    ended, cancel = threading.Event(), Cancel()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ended.wait(HANGS) and [])
    try:
        with pytest.raises(WritingError, match="nothing whole came within 1 s"):
            [*write_storyboard("a road", 2, 10, Endpoint("http://models.invalid", "m"), timeout=1)]
        threading.Timer(0.1, cancel.cancel).start()
        with pytest.raises(Cancelled):
            [*write_storyboard("a road", 2, 10, Endpoint("http://models.invalid", "m"), cancel=cancel)]
    finally:
        ended.set()


def test_another_machine_is_asked_through_its_proxy_which_does_not_see_more(monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    stall = threading.Event()
    with chat_server(Said((delta(content="{"),), stall=stall)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        events = write_storyboard("a road", 2, 10, Endpoint("http://models.invalid", "m", KEY))
        assert next(events).route.startswith("http://models.invalid/v1 through the proxy http://127.0.0.1:")
        assert any(isinstance(each, AnswerGrew) for each in events)
        events.close()
        assert proxy.gone.wait(HANGS)
    ((_, path, headers, _),) = proxy.asked
    assert path == "http://models.invalid/v1/chat/completions"
    assert headers["Host"] == "models.invalid"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert {name.lower() for name in headers} <= {*wire.SENT, "accept-encoding", "authorization"}
