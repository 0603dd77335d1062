"""A language model's server on loopback: answers in pieces, as `openai` asks for them, and the faults of real ones.

Each answer is taken from a list, one a question, so that a test says exactly what happens when. Everything that was
sent is kept, headers and all.
"""

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from guard import HANGS
from loopback import LoopbackServer, serving

STREAM = "text/event-stream"


@dataclass(frozen=True)
class Said:
    """An answer: bytes after each other, with a status and headers.

    endless: the last bytes come again and again; stall: until it is set, the connection stays open and nothing more
    comes; late: until it is set, nothing comes; cut: the connection ends without the end of the answer.
    """

    parts: tuple = ()
    status: int = 200
    headers: tuple = (("Content-Type", STREAM),)
    endless: bool = False
    stall: threading.Event | None = None
    late: threading.Event | None = None
    cut: bool = False


@dataclass
class ChatServer:
    """What it says to each question, which models it has, and what it was asked."""

    answers: list = field(default_factory=list)
    models: list = field(default_factory=lambda: ["tiny-writer"])
    listing: Said | None = None
    asked: list = field(default_factory=list)  # method, path, headers, body
    gone: threading.Event = field(default_factory=threading.Event)  # a reader that went before the end
    url: str = ""

    @property
    def questions(self):
        """The bodies of all questions."""
        return [json.loads(body) for method, _, _, body in self.asked if method == "POST"]


def event(data):
    """A line of a stream, with anything in it."""
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def delta(**what):
    return event({"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": what}]})


DONE = event(b"[DONE]")


def said(text, size=7, **faults):
    """A good answer, in pieces of a few characters."""
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    return Said((delta(role="assistant", content=""), *(delta(content=piece) for piece in pieces), DONE), **faults)


def refused(status, message="no", headers=()):
    body = message if isinstance(message, bytes) else json.dumps({"error": {"message": message}}).encode()
    return Said((body,), status, (("Content-Type", "application/json"), *headers))


class Handler(BaseHTTPRequestHandler):
    """Answers for `server.chat`."""

    server: "Server"
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.note(b"")
        listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.chat.models]}
        usual = Said((json.dumps(listed).encode(),), headers=(("Content-Type", "application/json"),))
        self.answer(self.server.chat.listing or usual)

    def do_POST(self):
        self.note(self.rfile.read(int(self.headers["Content-Length"])))
        answers = self.server.chat.answers
        self.answer(answers.pop(0) if len(answers) > 1 else answers[0])

    def note(self, body):
        self.server.chat.asked.append((self.command, self.path, dict(self.headers), body))

    def answer(self, what):
        self.send_response(what.status)
        for name, value in (*what.headers, ("Transfer-Encoding", "chunked")):
            self.send_header(name, value)
        self.end_headers()
        if what.late is not None:
            what.late.wait(HANGS)
        try:
            for part in what.parts:
                self.chunk(part)
            while what.endless:
                self.chunk(what.parts[-1])
        except OSError:
            self.server.chat.gone.set()
            return
        if what.stall is not None:
            self.wait(what.stall)
        if not what.cut and what.stall is None:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def chunk(self, part):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        self.wfile.flush()

    def wait(self, stall):
        """Say nothing more, and notice if the reader goes."""
        self.connection.settimeout(0.05)
        for _ in range(int(HANGS / 0.05)):
            if stall.is_set():
                return
            try:
                if not self.connection.recv(1):
                    self.server.chat.gone.set()
                    return
            except TimeoutError:
                continue
            except OSError:
                self.server.chat.gone.set()
                return


class Server(LoopbackServer):
    chat: ChatServer


@contextmanager
def chat_server(*answers):
    """Say these answers, the last again and again, while the block lasts. Gives the `ChatServer`."""
    chat = ChatServer(list(answers))
    server = Server(("127.0.0.1", 0), Handler)
    server.chat = chat
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    with serving(server):
        yield chat
