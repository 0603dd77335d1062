"""A hub that lies: what it sends fills no disk, and what it lists is one line."""

import gzip
import json
import os
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from hypothesis import given, settings as cases, strategies as st

from holo_lite.errors import FetchError, OutputError
from holo_lite.fetch.hub import Hub, HubFile, HubStream, _begin, _published
from holo_lite.fetch.transfer import download, partial

LISTED = HubFile("a/b", "c0ffee", "x.bin", 5000, "ab" * 32)


class Endless:
    """A hub whose files do not end."""

    def __init__(self, piece):
        self.piece, self.sent = piece, 0

    @contextmanager
    def open(self, _file, start):
        yield HubStream(start, self._pieces())

    def _pieces(self):
        while True:
            self.sent += len(self.piece)
            yield self.piece


@pytest.mark.parametrize("size", [1, 999, 5000, 2_000_000])
def test_no_more_than_listed_is_taken(tmp_path, size):
    hub, most = Endless(bytes(size)), []
    with pytest.raises(FetchError, match="its digest differs"):
        most.extend(each for each in download(hub, LISTED, tmp_path / "x.bin"))
    assert hub.sent < 5000 + size
    assert list(tmp_path.iterdir()) == []


def test_what_is_sent_compressed_is_not_unpacked(monkeypatch):
    """A million zeros are a thousand bytes."""
    packed = gzip.compress(bytes(10**6))
    answer = SimpleNamespace(is_error=False, headers={}, iter_raw=lambda _: iter([packed]))

    @contextmanager
    def stream(*_, headers, **__):
        assert headers["Accept-Encoding"] == "identity"
        yield answer

    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: SimpleNamespace(stream=stream))
    with Hub("http://127.0.0.1:9").open(LISTED, 0) as found:
        assert b"".join(found.pieces) == packed


HOSTILE = st.one_of(
    st.text(), st.sampled_from(["../x", "/etc/x", "a/../b", "a\0b", "a\\b", "a\nb", "\x1b[2J", "", ".", "a//b"])
)


@given(name=HOSTILE, digest=HOSTILE, size=st.one_of(st.floats(), st.integers(), st.text(), st.none()))
@cases(max_examples=200)
def test_whatever_is_listed_is_a_file_inside_or_refused(name, digest, size):
    entry = SimpleNamespace(rfilename=name, size=size, blob_id=digest, lfs=None)
    with pytest.raises((ValueError, OverflowError, TypeError)):
        _published("a/b", "c0ffee", entry)
    good = SimpleNamespace(rfilename=name, size=3, blob_id="ab" * 20, lfs=None)
    try:
        found = _published("a/b", "c0ffee", good)
    except ValueError:
        return
    assert ".." not in found.path.split("/")
    assert not found.path.startswith("/")


@pytest.mark.parametrize("answer", ["[" * 100_000, '{"sha": 1}', '{"siblings": [1]}', "[]", "NaN", '{"id": "x" '])
def test_a_list_that_is_none_is_one_line(monkeypatch, answer):
    class Api:
        def __init__(self, **_):
            pass

        def model_info(self, *_, **__):
            found = json.loads(answer)
            return SimpleNamespace(**found)

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    with pytest.raises(FetchError, match="does not answer like a hub"):
        Hub("http://127.0.0.1:9").files("a/b")


@pytest.mark.parametrize(
    "headers",
    [{"Content-Range": f"bytes 0-1/{'9' * 5000}"}, {"Content-Length": "9" * 5000}, {"Content-Length": "x"}],
)
def test_a_length_that_is_no_number_is_one_line(headers):
    with pytest.raises(FetchError, match="lists 5000"):
        _begin(LISTED, headers)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_in_the_place_of_a_part_is_not_followed(tmp_path):
    victim, target = tmp_path / "victim", tmp_path / "x.bin"
    victim.write_bytes(b"precious")
    partial(LISTED, target).symlink_to(victim)
    with pytest.raises(OutputError, match="a link is named"):
        list(download(Endless(bytes(9)), LISTED, target))
    assert victim.read_bytes() == b"precious"
