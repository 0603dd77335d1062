"""A hub on loopback: the few answers `huggingface_hub` asks for, and the faults of a real one.

It serves what it is given for every repository: the list of files with sizes and digests, and the files themselves,
whole or from a byte on. Large files are answered with a redirect to another host, as the real one does. Each fault
is taken from a list, one a request, so that a test says exactly what happens when.
"""

import hashlib
import json
import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from guard import HANGS
from loopback import LoopbackServer, serving

COMMIT = "c0ffee" * 6 + "c0ff"
SMALL = 1000  # bytes; larger files are "large" ones, kept elsewhere


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request: a status, or a connection that ends after so many bytes."""

    status: int = 0
    code: str = ""
    after: int | None = None
    reset: bool = False  # end it the hard way
    stall: threading.Event | None = None  # or keep it open, and send nothing more


@dataclass
class HubServer:
    """What the hub holds, what shall go wrong, and what it was asked."""

    repositories: dict
    file_faults: list = field(default_factory=list)
    list_faults: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    knows_parts: bool = True
    listed_as: dict = field(default_factory=dict)  # path → content whose size and digest are listed instead
    kept_by_xet: dict = field(default_factory=dict)  # path → Xet's digest
    leave: bytes = b""  # what is answered to who asks for leave to read by Xet
    leave_at: str | None = None  # where that is to be asked; None: here
    endpoint: str = ""
    elsewhere: str = ""

    def content(self, repository, path):
        return self.repositories[repository][path]

    def ranges(self, name):
        """The first byte of every request for a file of that name."""
        return [start for path, start, _ in self.asked if path.endswith(name)]


def digest(content):
    return hashlib.sha256(content).hexdigest()


def blob(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(path, content):
    found = {"rfilename": path, "size": len(content), "blobId": blob(content)}
    if len(content) > SMALL:
        found["lfs"] = {"sha256": digest(content), "size": len(content), "pointerSize": 130}
    return found


class Handler(BaseHTTPRequestHandler):
    """Answers for `server.hub`."""

    server: "Server"
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/"):
            self.give_list(path.removeprefix("/api/models/"))
        elif path == "/leave":
            self.answer(200, self.server.hub.leave)
        elif "/resolve/" in path:
            repository, _, rest = path[1:].partition("/resolve/")
            self.resolve(repository, rest.partition("/")[2])
        else:
            repository, _, file = path.removeprefix("/kept/").partition("//")
            self.give(repository, file)

    def give_list(self, repository):
        hub = self.server.hub
        self.note(repository, 0)
        if self.refused(hub.list_faults, repository in hub.repositories):
            return
        files = hub.repositories[repository]
        siblings = [entry(path, hub.listed_as.get(path, content)) for path, content in files.items()]
        self.answer(200, json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode())

    def resolve(self, repository, path):
        """A small file is given; for a large one the way is told, with what a client wants to know of it."""
        hub = self.server.hub
        if self.refused([], path in hub.repositories.get(repository, ())):
            return
        content = hub.content(repository, path)
        if len(content) <= SMALL:
            self.give(repository, path)
            return
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(content)),
            "X-Linked-ETag": f'"{digest(content)}"',
            "Location": f"{hub.elsewhere}/kept/{repository}//{path}",
        }
        if path in hub.kept_by_xet:
            place = f"{hub.endpoint}/leave" if hub.leave_at is None else hub.leave_at
            headers |= {"X-Xet-Hash": hub.kept_by_xet[path], "X-Xet-Refresh-Route": place}
        self.answer(302, b"", headers)

    def give(self, repository, path):
        hub = self.server.hub
        content = hub.content(repository, path)
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if hub.knows_parts else 0
        self.note(path, start)
        fault = hub.file_faults.pop(0) if hub.file_faults and self.command == "GET" else Fault()
        if fault.status:
            self.refuse(fault)
            return
        headers = {"ETag": f'"{blob(content)}"', "X-Repo-Commit": COMMIT}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(206 if start else 200, content[start:], headers, fault)

    def note(self, what, start):
        self.server.hub.asked.append((what, start, self.headers.get("Authorization")))

    def refused(self, faults, is_there):
        fault = faults.pop(0) if faults else Fault() if is_there else Fault(404, "RepoNotFound")
        if fault.status:
            self.refuse(fault)
        return bool(fault.status)

    def refuse(self, fault):
        self.answer(fault.status, b"no", {"X-Error-Code": fault.code} if fault.code else {})

    def answer(self, status, content, headers=None, fault=Fault()):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content if fault.after is None else content[: fault.after])
        self.wfile.flush()
        if fault.stall is not None:
            fault.stall.wait(HANGS)
        if fault.after is not None:
            self.close_connection = True
        if fault.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


class Server(LoopbackServer):
    hub: HubServer


@contextmanager
def hub_server(repositories):
    """Serve `repositories`, name → path → bytes, while the block lasts. Gives the `HubServer`."""
    hub = HubServer(repositories)
    server = Server(("127.0.0.1", 0), Handler)
    server.hub = hub
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    hub.elsewhere = f"http://localhost:{server.server_port}"
    with serving(server):
        yield hub
