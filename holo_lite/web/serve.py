"""The server itself: its port, its token, the lock of its folder, and how it ends."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from holo_lite.errors import OutputError, SettingsError
from holo_lite.system.folder_lock import holding
from holo_lite.web.guard import Guard
from holo_lite.web.lane import AUTO, Place
from holo_lite.web.routes import Routes
from holo_lite.web.workspace import OWN, Workspace
from holo_lite.writing.endpoint import Endpoint

PORT = 8088
LOOPBACK = "127.0.0.1"
LOCK, TOKEN = "studio.lock", "token"
TRIED = 20  # ports, from the usual one on
SLOWEST = 20  # seconds without a word from somebody who is connected


@dataclass(frozen=True)
class Address:
    """Where the page is. host: None is this machine alone."""

    host: str
    port: int
    token: str

    @property
    def names(self) -> list[str]:
        """Hosts as browsers name them."""
        own = {self.host, "localhost", LOOPBACK} if self.host == LOOPBACK else {self.host}
        return sorted(f"[{name}]:{self.port}" if ":" in name else f"{name}:{self.port}" for name in own)

    @property
    def link(self) -> str:
        """What to open."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}/?token={self.token}"


class Server(uvicorn.Server):
    """Uvicorn's, which lets go of open streams when it is told to end."""

    def __init__(self, config: uvicorn.Config, closing: Callable[[], None], ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._closing, self._ready = closing, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say so."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: streams first, or it would wait for them."""
        self._closing()
        await super().shutdown(sockets)


def serve(
    folder: Path,
    models: Iterable[Path] = (),
    endpoint: Endpoint | None = None,
    *,
    devices: Sequence[Place] = (AUTO,),
    host: str = LOOPBACK,
    port: int | None = None,
    ready: Callable[[Address], None] = lambda _: None,
) -> None:
    """Serve the page of a folder until the process is told to end; `ready` is called when it can be opened.

    models: folders to offer besides those in the folder; endpoint: who writes storyboards, if anybody; devices: one
    film at a time is made on each, or on several together.

    Raises `OutputError` for a folder that cannot be used or that another server has, and `SettingsError` for a port
    that is taken.
    """
    if not folder.is_dir():
        raise OutputError(f"{folder}: is no folder; make it, or name another one")
    held = OutputError(f"{folder}: another studio has this folder open; use its page, or end it")
    with (
        holding(folder / OWN, LOCK, held),
        _bound(host, port) as door,
        _workspace(folder, models, endpoint, devices) as workspace,
    ):
        address = Address(host, door.getsockname()[1], _token(folder / OWN / TOKEN))
        cookie = f"holo-lite-{address.port}"
        app = Guard(Routes(workspace).app(), address.names, address.token, cookie)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=SLOWEST,
            h11_max_incomplete_event_size=64 * 1024,
        )
        server = Server(config, workspace.listeners.close, lambda: ready(address))
        workspace.start()
        server.run([door])


@contextmanager
def _workspace(
    folder: Path, models: Iterable[Path], endpoint: Endpoint | None, devices: Sequence[Place]
) -> Iterator[Workspace]:
    workspace = Workspace(folder, models, endpoint, devices=devices)
    try:
        yield workspace
    finally:
        workspace.close()


@contextmanager
def _bound(host: str, port: int | None) -> Iterator[socket.socket]:
    """The socket: of the port that is named, or the first that is free. Raises `SettingsError`."""
    last: OSError | None = None
    for each in [port] if port is not None else [*range(PORT, PORT + TRIED), 0]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        door = socket.socket(family, socket.SOCK_STREAM)
        try:
            door.setsockopt(socket.SOL_SOCKET, _alone(), 1)
            door.bind((host, each))
            door.listen(128)
        except (OSError, OverflowError) as error:
            door.close()
            last = error if isinstance(error, OSError) else OSError(str(error))
            continue
        try:
            yield door
        finally:
            door.close()
        return
    raise SettingsError(f"{host}, port {port}: cannot be used ({last}); name another with --port or --host")


def _alone() -> int:
    """The option of a socket by which nobody else has its port; but on Windows it is had again at once."""
    if sys.platform == "win32":
        return socket.SO_EXCLUSIVEADDRUSE
    return socket.SO_REUSEADDR


def _token(path: Path) -> str:
    """The token of a folder, the same at every start, readable by its owner alone. Raises `OutputError`."""
    with suppress(OSError, UnicodeDecodeError):
        found = path.read_text(encoding="ascii").strip()
        if len(found) >= 32:
            return found
    token = secrets.token_urlsafe(32)
    try:
        with suppress(FileNotFoundError):
            path.unlink()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(token)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); free some space") from error
    return token
