"""Talking to the hub, through `huggingface_hub`: its address, token, headers and session.

``HF_ENDPOINT``, ``HF_TOKEN`` (or a stored login), ``HF_HUB_DOWNLOAD_TIMEOUT``, ``HF_HUB_OFFLINE`` and proxies mean
what they mean there. What can go wrong becomes a `FetchError`; what may pass by itself, its child `PassingError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from holo_lite.errors import FetchError, RecordError
from holo_lite.fetch.xet import XetPlace
from holo_lite.reading.trees import parse
from holo_lite.system.record_fields import Natural
from holo_lite.system.records import convert
from holo_lite.version import __version__

PIECE = 2**20  # bytes handed on at once; what a lost connection can cost at most
PASSING = (408, 429, 500, 502, 503, 504)
RANGE = re.compile(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15})", re.ASCII)
LENGTH = re.compile(r"\d{1,15}", re.ASCII)
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-zA-Z_.-]{1,128}")
LARGEST = 10**15  # bytes of a file
XET_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
STORE = re.compile(r"https?://[^/]")  # hf_xet itself would take a folder of this machine, too
LEAVE = 2**16  # bytes
ADDRESS = re.compile(r"[!-~]{1,2000}")


class PassingError(FetchError):
    """The same request may succeed in a while."""


@dataclass(frozen=True)
class HubFile:
    """A file as the hub lists it.

    `digest` is in hexadecimal: the SHA-256 of a large file's content, the git object's SHA-1 of a small one.
    """

    repository: str
    commit: str
    path: str
    nbytes: int
    digest: str

    @property
    def name(self) -> str:
        """Its name without the folders."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class HubStream:
    """The bytes of a file from `start` on: 0 where the server does not give parts."""

    start: int
    pieces: Iterator[bytes]


class Hub:
    """The hub at `endpoint` (None: at ``HF_ENDPOINT``, or huggingface.co)."""

    def __init__(self, endpoint: str | None = None) -> None:
        from huggingface_hub import constants

        self.endpoint = (endpoint or str(constants.ENDPOINT)).rstrip("/")
        self.timeout: int = constants.HF_HUB_DOWNLOAD_TIMEOUT  # seconds without a byte
        if not re.match(r"https?://[^/]", self.endpoint):
            raise FetchError(f"HF_ENDPOINT '{self.endpoint}': write it like https://huggingface.co")

    def files(self, repository: str) -> tuple[HubFile, ...]:
        """List a repository's files. Raises `FetchError`."""
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint, library_name="holo-lite", library_version=__version__)
        with self._understanding():
            with self._asking(repository):
                info: Any = api.model_info(repository, files_metadata=True, timeout=self.timeout)
            return tuple(_published(repository, str(info.sha), entry) for entry in info.siblings or ())

    @contextmanager
    def open(self, file: HubFile, start: int) -> Iterator[HubStream]:
        """Read a file from byte `start` on. Raises `FetchError`, also while its pieces are taken.

        Every call asks the hub itself and follows it to where the file is kept: such addresses are valid for an
        hour, and a large file can take longer.
        """
        wanted = {"Range": f"bytes={start}-"} if start else {}
        with self._asking(file.repository), self._get(self._address(file), wanted) as response:
            yield HubStream(_begin(file, response.headers), response.iter_raw(PIECE))

    def xet(self, file: HubFile) -> XetPlace | None:
        """Where Xet keeps a file; None where it does not, and with ``HF_HUB_DISABLE_XET``. Raises `FetchError`."""
        from huggingface_hub import constants, get_hf_file_metadata

        if constants.HF_HUB_DISABLE_XET:
            return None
        with self._asking(file.repository), self._understanding():
            told: Any = get_hf_file_metadata(
                self._address(file), timeout=self.timeout, headers=_headers(), endpoint=self.endpoint
            ).xet_file_data
            if told is None or not self._is_own(str(told.refresh_route)):
                return None
            with self._get(told.refresh_route, {}) as response:
                answer = b"".join(islice(response.iter_raw(LEAVE), 1))
        return _leave(self.endpoint, str(told.file_hash), str(told.refresh_route), answer)

    def _is_own(self, address: str) -> bool:
        """Whether it is one of this hub's: the token is shown to nobody else."""
        return address.startswith(f"{self.endpoint}/") and ADDRESS.fullmatch(address) is not None

    def _address(self, file: HubFile) -> str:
        from huggingface_hub import hf_hub_url

        return str(hf_hub_url(file.repository, file.path, revision=file.commit, endpoint=self.endpoint))

    @contextmanager
    def _get(self, url: str, headers: Mapping[str, str]) -> Iterator[Any]:
        """An answer whose bytes are taken as they are sent: unpacked, a few of them can be any number."""
        from huggingface_hub.utils import get_session, hf_raise_for_status

        asked = {**_headers(), "Accept-Encoding": "identity", **headers}
        options = {"headers": asked, "timeout": self.timeout, "follow_redirects": True}
        with get_session().stream("GET", url, **options) as response:
            if response.is_error:
                response.read()
                hf_raise_for_status(response)
            yield response

    @contextmanager
    def _understanding(self) -> Iterator[None]:
        """Say in one line that an answer is none of a hub's."""
        try:
            yield
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise FetchError(f"{self.endpoint}: does not answer like a hub; check HF_ENDPOINT") from error

    @contextmanager
    def _asking(self, repository: str) -> Iterator[None]:
        """Say in one line what the hub, or the way to it, answers with."""
        from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

        try:
            yield
        except OfflineModeIsEnabled as error:
            raise FetchError("HF_HUB_OFFLINE is set, so nothing is fetched; unset it") from error
        except HfHubHTTPError as error:
            raise self._refused(repository, error.response.status_code) from error
        except HTTPError as error:  # of the library the hub's is built on: no connection, or one that was lost
            said = str(error) or type(error).__name__
            raise PassingError(f"{self.endpoint}: cannot be reached ({said}); check the network") from error

    def _refused(self, repository: str, status: int) -> FetchError:
        place = f"{self.endpoint}/{repository}"
        if status in PASSING:
            return PassingError(f"{place}: the hub is busy or has trouble (HTTP {status}); try again later")
        if status in {401, 403}:
            return FetchError(
                f"{place}: access denied (HTTP {status}); log in on that page, accept its terms if it shows any, "
                "and set HF_TOKEN to your token"
            )
        if status == 404:
            return FetchError(f"{place}: not found, or private (HTTP 404); check that page")
        return FetchError(f"{place}: the hub refuses (HTTP {status}); check that page")


def _headers() -> dict[str, str]:
    from huggingface_hub.utils import build_hf_headers

    headers: dict[str, str] = build_hf_headers(library_name="holo-lite", library_version=__version__)
    return headers


@dataclass(frozen=True)
class _Leave:
    """The hub's leave to read what Xet keeps, in its own names."""

    casUrl: str  # noqa: N815
    accessToken: str  # noqa: N815
    exp: Natural


def _leave(endpoint: str, digest: str, refresh: str, answer: bytes) -> XetPlace:
    """Raises `FetchError` for an answer that is none, and for a place that is no server."""
    try:
        found = convert(parse(answer), _Leave)
    except RecordError as error:
        raise FetchError(f"{endpoint}: gives no leave to read by Xet ({error})") from error
    if not (STORE.match(found.casUrl) and XET_DIGEST.fullmatch(digest)):
        raise FetchError(f"{endpoint}: names no place of Xet's")
    return XetPlace(digest, found.casUrl, found.accessToken, found.exp, refresh, _headers())


def _published(repository: str, commit: str, entry: Any) -> HubFile:
    """A listed file. Raises `ValueError` for what no hub lists, which must become no name of a file here."""
    digest = entry.lfs.sha256 if entry.lfs is not None else entry.blob_id
    found = HubFile(repository, commit, str(entry.rfilename), int(entry.size), str(digest))
    steps = set(found.path.split("/"))
    inside = found.path.isprintable() and not {"", ".", ".."} & steps and "\\" not in found.path
    known = DIGEST.fullmatch(found.digest) and COMMIT.fullmatch(commit)
    if not (inside and known and 0 <= found.nbytes <= LARGEST):
        raise ValueError("a file is listed in a way that no file has")
    return found


def _begin(file: HubFile, headers: Mapping[str, str]) -> int:
    """Where an answer begins. Raises `FetchError` if it is of another size than the listed file."""
    part = RANGE.match(headers.get("Content-Range", ""))
    total = part[2] if part else headers.get("Content-Length")
    if total is not None and not (LENGTH.fullmatch(total) and int(total) == file.nbytes):
        raise FetchError(
            f"{file.repository}/{file.path}: the hub sends {total[:20]} bytes, but lists {file.nbytes}; "
            "type the same command again, and if that does not help, check the repository's page"
        )
    return int(part[1]) if part else 0
