"""The wire to an endpoint: no header too many goes, no byte too many comes, and any thread can cut it.

The package `httpx2`, on which `openai` is built, lets a transport stand between itself and the network.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import httpx2

from holo_lite.errors import WritingError
from holo_lite.writing.endpoint import Endpoint

LARGEST_ANSWER = 16 * 2**20  # bytes as they come: a piece of a few letters comes in some 300
LARGEST_REFUSAL = 2**16  # bytes that are read of what an error says
# Closed so, a connection is reset: else a server that waits for room for what it sends would wait a minute more.
RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
SENT = {"host", "accept", "connection", "content-type", "content-length"}  # headers


class Wire(httpx2.BaseTransport):
    """The connection to one endpoint, directly or through its proxy. Raises `WritingError` for none that can be."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._inner = _transport(endpoint)
        self._lock = threading.Lock()
        self._stream: Any = None
        self._is_cut = False

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, and give the beginning of its answer. Raises `WritingError` for one that is packed."""
        for name in [*request.headers]:
            if name.lower() not in SENT:
                del request.headers[name]
        request.headers["Accept-Encoding"] = "identity"
        if self._endpoint.key:
            request.headers["Authorization"] = f"Bearer {self._endpoint.key}"
        request.extensions = {**request.extensions, "trace": self._trace}
        response = self._inner.handle_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            response.close()
            raise WritingError(f"{self._endpoint.url}: sends a packed answer unasked; its server must not")
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=Counted(response, self._endpoint.url),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close the connection, in the thread that reads."""
        self._inner.close()

    def cut(self) -> None:
        """End the connection, now or as soon as there is one: a read of it ends at once."""
        with self._lock:
            self._is_cut = True
            self._shut()

    def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        """Note which connection it is: `httpcore2` tells when it has one, and another when that is encrypted."""
        if name.endswith((".connect_tcp.complete", ".start_tls.complete")):
            with self._lock:
                self._stream = info["return_value"]
                self._shut()

    def _shut(self) -> None:
        found = self._stream.get_extra_info("socket") if self._is_cut and self._stream is not None else None
        if found is not None:
            with suppress(OSError):
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                found.shutdown(socket.SHUT_RDWR)


class Counted(httpx2.SyncByteStream):
    """The bytes of an answer: one that is too long is an error, of one that refuses the beginning is enough."""

    def __init__(self, response: httpx2.Response, where: str) -> None:
        self._response, self._where = response, where

    def __iter__(self) -> Iterator[bytes]:
        taken, refuses = 0, self._response.status_code >= 300
        for part in self._response.iter_raw():
            taken += len(part)
            if taken > (LARGEST_REFUSAL if refuses else LARGEST_ANSWER):
                if refuses:
                    return
                raise WritingError(f"{self._where}: its answer does not end; try another model with --llm")
            yield part

    def close(self) -> None:
        """Close the answer."""
        self._response.close()


def _transport(endpoint: Endpoint) -> httpx2.HTTPTransport:
    try:
        return httpx2.HTTPTransport(proxy=endpoint.proxy or None, retries=0)
    except (ImportError, ValueError, httpx2.InvalidURL):  # a kind of proxy that is not known, or not installed
        raise WritingError(
            f"{endpoint.url}: the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names cannot be used; name "
            "one of http, or add this host to NO_PROXY"
        ) from None
