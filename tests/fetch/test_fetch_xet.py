"""Xet brings a file where it can; whatever is wrong with it is a note, and HTTP brings the rest."""

import json
import os
import re
import sys
import threading
from types import SimpleNamespace

import pytest
from guard import HANGS
from hub_server import hub_server

from holo_lite.errors import FetchError
from holo_lite.fetch import hub as hub_module, xet
from holo_lite.fetch.hub import Hub
from holo_lite.fetch.transfer import download, partial
from holo_lite.progress import Note, PhaseAdvanced

BYTES = os.urandom(5 * 2**20)
NAME = "weights.safetensors"
DIGEST = "ab" * 32


def leave(endpoint="https://store.invalid"):
    return json.dumps({"casUrl": endpoint, "accessToken": "secret", "exp": 2**33}).encode()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(xet, "LEAST", 1)
    with hub_server({"a/b": {NAME: BYTES}}) as hub:
        hub.kept_by_xet, hub.leave = {NAME: DIGEST}, leave()
        yield hub


class Library:
    """A stand-in for hf_xet: its one stream runs `chunks(start, end)`."""

    def __init__(self, chunks):
        self.asked, self.aborted = [], threading.Event()
        group = SimpleNamespace(download_stream=lambda _, start, end: chunks(start, end), abort=self.aborted.set)

        def new_group(**words):
            self.asked.append(words)
            return group

        self.XetSession = lambda _: SimpleNamespace(new_download_stream_group=new_group)
        self.XetConfig = lambda: SimpleNamespace(with_config=dict)
        self.XetDownloadStreamGroup = SimpleNamespace(abort=None)
        self.XetFileInfo = lambda digest, nbytes: (digest, nbytes)


@pytest.fixture
def library(monkeypatch):
    def install(chunks):
        found = Library(chunks)
        monkeypatch.setitem(sys.modules, "hf_xet", found)
        return found

    return install


def whole(start, end):
    yield from (BYTES[at : at + 700_001][: end - at] for at in range(start, end, 700_001))


def brought(server, target):
    """Download the file; its notes."""
    hub = Hub(server.endpoint)
    (file,) = hub.files("a/b")
    events = list(download(hub, file, target, wait=lambda _: None))
    assert target.read_bytes() == BYTES
    assert not partial(file, target).exists()
    return [event.text for event in events if isinstance(event, Note)]


def begun(server, target, count):
    """The first bytes have come before."""
    (file,) = Hub(server.endpoint).files("a/b")
    partial(file, target).write_bytes(BYTES[:count])


def test_all_of_it_comes_by_xet_with_the_hubs_leave(server, library, tmp_path):
    found = library(whole)
    assert brought(server, tmp_path / NAME) == []
    assert server.ranges(NAME) == []
    (words,) = found.asked
    assert (words["endpoint"], words["token"], words["token_expiry_unix_secs"]) == (
        "https://store.invalid",
        "secret",
        2**33,
    )
    assert words["token_refresh_url"] == f"{server.endpoint}/leave"


def test_it_goes_on_from_what_has_come_before(server, library, tmp_path):
    spans = []
    library(lambda start, end: (spans.append((start, end)), whole(start, end))[1])
    begun(server, tmp_path / NAME, 1_234_567)
    assert brought(server, tmp_path / NAME) == []
    assert spans == [(1_234_567, len(BYTES))]


def raising(error, after):
    def chunks(start, _):
        yield from whole(start, start + after)
        raise error

    return chunks


@pytest.mark.parametrize(
    "error", [ConnectionError("no\nnet\x1b"), PermissionError("no"), RuntimeError(), ValueError()]
)
@pytest.mark.parametrize("after", [0, 3_000_000])
def test_what_it_raises_is_a_note_and_http_brings_the_rest(server, library, tmp_path, error, after):
    library(raising(error, after))
    (note,) = brought(server, tmp_path / NAME)
    assert re.fullmatch(r"https://store\.invalid: Xet fails \(.+\); continuing over HTTP at \d\S* \w+", note)
    assert note.isprintable()
    assert server.ranges(NAME) == [after]


def test_one_that_ends_too_early_without_a_word_is_noticed(server, library, tmp_path):
    library(lambda start, _: whole(start, 2_000_000))
    (note,) = brought(server, tmp_path / NAME)
    assert note.startswith("https://store.invalid: Xet ended early; continuing over HTTP at ")
    assert server.ranges(NAME) == [2_000_000]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_is_an_early_end(server, library, tmp_path):
    """Of what Rust calls a panic, which is no `Exception`."""
    library(raising(SystemError("panic"), 0))
    assert len(brought(server, tmp_path / NAME)) == 1


def test_more_than_is_listed_fills_no_disk(server, library, tmp_path):
    library(lambda start, _: iter([BYTES[start:] + bytes(2**22)]))
    assert brought(server, tmp_path / NAME) == []


def test_other_bytes_are_no_file(server, library, tmp_path):
    library(lambda start, end: iter([bytes(end - start)]))
    with pytest.raises(FetchError, match="its digest differs"):
        brought(server, tmp_path / NAME)
    assert list(tmp_path.iterdir()) == []


def test_while_it_waits_there_are_signs_of_life_and_whoever_goes_ends_it(server, library, tmp_path, monkeypatch):
    monkeypatch.setattr(xet, "WAKE", 0.01)
    released = threading.Event()

    def stuck(*_):
        yield BYTES[:1000]
        released.wait(HANGS)

    found = library(stuck)
    hub = Hub(server.endpoint)
    (file,) = hub.files("a/b")
    events = download(hub, file, tmp_path / NAME)
    advanced = (event.done for event in events if isinstance(event, PhaseAdvanced))
    assert next(done for done in advanced if done) == 1000
    assert next(advanced) == next(advanced) == 1000
    events.close()
    assert found.aborted.is_set()
    released.set()
    assert partial(file, tmp_path / NAME).read_bytes() == BYTES[:1000]


def test_one_that_says_nothing_for_long_is_left(server, library, tmp_path, monkeypatch):
    monkeypatch.setattr(xet, "WAKE", 0.01)
    monkeypatch.setattr(xet, "SILENCE", 0.05)
    released = threading.Event()

    def silent(*_):
        released.wait(HANGS)
        yield b""

    found = library(silent)
    (note,) = brought(server, tmp_path / NAME)
    assert "nothing came for 0 s" in note
    assert found.aborted.is_set()
    released.set()


LEAVES = {
    "nothing": b"",
    "no JSON": b"<html>",
    "another record": b"[]",
    "no token": json.dumps({"casUrl": "https://a", "exp": 1}).encode(),
    "a time that is none": json.dumps({"casUrl": "https://a", "accessToken": "a", "exp": "soon"}).encode(),
    "a folder of this machine": leave("local:///tmp"),
    "without end": b" " * 2**20 + leave(),
}


@pytest.mark.parametrize("case", LEAVES)
def test_a_leave_that_is_none_is_a_note(server, library, tmp_path, case):
    found = library(whole)
    server.leave = LEAVES[case]
    (note,) = brought(server, tmp_path / NAME)
    assert note.startswith(f"{server.endpoint}: ")
    assert "continuing over HTTP" in note
    assert (found.asked, server.ranges(NAME)) == ([], [0])


def test_where_it_is_not_wanted_or_not_there_nobody_hears_of_it(server, library, tmp_path, monkeypatch):
    found = library(whole)
    server.kept_by_xet = {}
    assert brought(server, tmp_path / "not kept so") == []
    server.kept_by_xet = {NAME: DIGEST}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    assert brought(server, tmp_path / "not wanted") == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(xet, "LEAST", len(BYTES) + 1)
    assert brought(server, tmp_path / "small") == []
    monkeypatch.setattr(xet, "LEAST", 1)
    monkeypatch.delattr(found.XetDownloadStreamGroup, "abort")
    assert brought(server, tmp_path / "too old") == []
    monkeypatch.setitem(sys.modules, "hf_xet", None)
    assert brought(server, tmp_path / "not there") == []
    assert (found.asked, server.ranges(NAME)) == ([], [0] * 5)


def test_the_token_goes_to_no_other_place(server, library):
    found = library(whole)
    endpoint, server.endpoint = server.endpoint, server.elsewhere
    hub = Hub(endpoint)
    (file,) = hub.files("a/b")
    assert hub.xet(file) is None
    assert found.asked == []


@pytest.mark.parametrize(
    "route", ["", "\x01", "/leave", "//", "http://", "http://[", "x" * 3000, "{hub}/a b", "{hub}/\xff"]
)
@pytest.mark.parametrize("digest", [DIGEST, "", "zz" * 32])
def test_headers_that_no_hub_sends_are_no_xet(server, library, tmp_path, route, digest):
    found = library(whole)
    server.kept_by_xet, server.leave_at = {NAME: digest}, route.replace("{hub}", server.endpoint)
    assert brought(server, tmp_path / NAME) == []
    assert found.asked == []


def test_the_library_itself_brings_a_file_from_a_store_of_its_own(server, tmp_path, monkeypatch):
    """All settings are known to it, and a span of a file is that span."""
    library = pytest.importorskip("hf_xet")
    if not xet.is_usable():
        pytest.skip("hf_xet is older than what is used of it")
    monkeypatch.setattr(hub_module, "STORE", re.compile("local://"))
    store, kept = f"local://{tmp_path}/store", tmp_path / "kept"
    (tmp_path / "store").mkdir()
    kept.write_bytes(BYTES)
    with library.XetSession().new_upload_commit(endpoint=store) as commit:
        upload = commit.start_upload_file(str(kept))
    server.kept_by_xet, server.leave = {NAME: upload.result().xet_info.hash}, leave(store)
    assert brought(server, tmp_path / "whole") == []
    begun(server, tmp_path / "rest", 3_333_333)
    assert brought(server, tmp_path / "rest") == []
    assert server.ranges(NAME) == []
