"""A large file in several streams at once, by `hf_xet`, where it is installed and the hub keeps the file so.

Its ordered stream begins at any byte and ends where it is told to, so what has come is kept, and no more than is
listed is asked for (from 1.7 on). What it does not do by itself is done here (seen with 1.8):

- It waits in a runtime of its own, where neither Ctrl-C nor a cancel reaches it. So a thread takes what it brings,
  and ends when the group of its streams is aborted.
- Against a server that refuses, fails or says nothing it tries again for minutes, and then may end as if it were
  done. So it tries little, and only what has come counts; HTTP brings the rest.
- It takes up to 6 GB of memory, and reports every transfer to its makers. It is told not to.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any

from holo_lite.errors import FetchError

LEAST = 64 * 2**20  # bytes that are left of a file: for fewer, one stream is as good
PIECE = 2**20  # bytes handed on at once
AHEAD = 4  # chunks that wait to be taken
WAKE = 0.5  # seconds after which a wait shows a sign of life
SILENCE = 600.0  # seconds without a chunk; of a slow line, the first takes some minutes
LIMITS = {
    "client.retry_max_attempts": 1,
    "client.retry_base_delay": "500ms",
    "reconstruction.download_buffer_size": "256MB",
    "reconstruction.download_buffer_perfile_size": "64MB",
    "reconstruction.download_buffer_limit": "512MB",
    "reconstruction.min_prefetch_buffer": "64MB",
    "reconstruction.min_reconstruction_fetch_size": "64MB",
    "telemetry.enabled": False,
}
# What it raises: the system's kind for network, access and what is not found; the others for its own faults.
RAISED = (OSError, RuntimeError, ValueError, TypeError, AttributeError, LookupError)


@dataclass(frozen=True)
class XetPlace:
    """Where Xet keeps a file, and the leave to read it. At `refresh` another is given, when it ends."""

    digest: str  # Xet's own, in hexadecimal
    endpoint: str
    token: str
    expires: int  # seconds since 1970
    refresh: str
    headers: Mapping[str, str]  # for `refresh`; the hub's token is in them


def is_usable() -> bool:
    """Whether there is an `hf_xet` whose streams can be ended: older ones also know no settings, or not these."""
    try:
        library = importlib.import_module("hf_xet")
    except ImportError:
        return False
    return hasattr(getattr(library, "XetDownloadStreamGroup", None), "abort")


def xet_pieces(place: XetPlace, span: range, timeout: float) -> Generator[bytes]:
    """Bring a span of a file's bytes, in order; an empty piece is a sign of life.

    `timeout` is how long the server may say nothing, in seconds. Ends early, without a word, where `hf_xet` does.
    Raises `FetchError`.
    """
    pump = _Pump(lambda: _Transfer(place, span, timeout))
    pump.start()
    try:
        yield from pump.pieces()
    finally:
        pump.stop()
    if pump.fault is not None:
        raise FetchError(f"{place.endpoint}: Xet fails ({_short(pump.fault)})") from pump.fault


class _Transfer:
    """One stream of `hf_xet`, and what ends it."""

    def __init__(self, place: XetPlace, span: range, timeout: float) -> None:
        library: Any = importlib.import_module("hf_xet")
        wait = f"{max(1, round(timeout))}s"
        limits = {**LIMITS, "client.read_timeout": wait, "client.connect_timeout": wait}
        session = library.XetSession(library.XetConfig().with_config(limits))
        group = session.new_download_stream_group(
            endpoint=place.endpoint,
            token=place.token,
            token_expiry_unix_secs=place.expires,
            token_refresh_url=place.refresh,
            token_refresh_headers=dict(place.headers),
        )
        self.end: Callable[[], None] = group.abort
        info = library.XetFileInfo(place.digest, span.stop)
        self.chunks: Iterator[bytes] = group.download_stream(info, start=span.start, end=span.stop)


class _Pump(threading.Thread):
    """Takes what a transfer brings, so that whoever waits for it can be interrupted."""

    def __init__(self, begin: Callable[[], _Transfer]) -> None:
        super().__init__(name="xet", daemon=True)
        self.fault: Exception | None = None
        self._begin = begin
        self._transfer: _Transfer | None = None
        self._stopped = threading.Event()
        self._found: Queue[bytes] = Queue(AHEAD)

    def run(self) -> None:
        """Put chunks down until there are no more, or nobody wants them."""
        try:
            self._transfer = self._begin()
            if self._stopped.is_set():  # while it began: whoever stopped it had nothing to end
                self._transfer.end()
            for chunk in self._transfer.chunks:
                self._put(chunk)
        except RAISED as error:
            self.fault = error

    def pieces(self) -> Iterator[bytes]:
        """Take them, cut into pieces, till the thread has ended and all are taken."""
        since = time.monotonic()
        while time.monotonic() - since < SILENCE:
            was_alive = self.is_alive()
            try:
                chunk = self._found.get(timeout=WAKE if was_alive else 0.001)
            except Empty:
                if not was_alive:
                    return
                yield b""
            else:
                yield from (chunk[start : start + PIECE] for start in range(0, len(chunk), PIECE))
                since = time.monotonic()
        self.fault = TimeoutError(f"nothing came for {SILENCE:.0f} s")

    def stop(self) -> None:
        """Have it end; what it holds goes."""
        self._stopped.set()
        if self._transfer is not None:
            with suppress(*RAISED):
                self._transfer.end()

    def _put(self, chunk: bytes) -> None:
        while not self._stopped.is_set():
            with suppress(Full):
                self._found.put(chunk, timeout=WAKE)
                return


def _short(error: Exception) -> str:
    """What it says, on one line that a terminal shows."""
    said = " ".join(str(error).split()) or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in said)[:160]
