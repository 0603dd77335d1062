"""An endpoint's address, proxy and key."""

import pytest

from holo_lite.errors import SettingsError
from holo_lite.writing.endpoint import Endpoint, is_loopback

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("typed", "used"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
        (" http://127.0.0.1:8080/ ", "http://127.0.0.1:8080/v1"),
        ("http://localhost:11434/v1/", "http://localhost:11434/v1"),
        ("http://localhost:11434/v1/chat/completions", "http://localhost:11434/v1"),
        ("https://models.example/api/v3", "https://models.example/api/v3"),
        ("http://[::1]:8080", "http://[::1]:8080/v1"),
    ],
)
def test_an_address_is_mended_where_it_is_clear_what_is_meant(typed, used):
    assert Endpoint(typed).url == used


@pytest.mark.parametrize(
    "typed",
    [
        *("", " ", "127.0.0.1:8080", "localhost", "ftp://a/v1", "file:///etc/passwd", "http://", "http:///v1"),
        *("http://a b/", "http://a/\nx", "http://a:99999", "http://a:x", "http://[::1", "http://a/v1?x=1"),
        *("http://a/v1#x", "http://ä/v1", f"http://{'a' * 2000}/v1"),
    ],
)
def test_what_is_no_address_is_one_line(typed):
    with pytest.raises(SettingsError, match="write it like http") as caught:
        Endpoint(typed)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 250


def test_a_password_in_an_address_is_refused_and_not_shown():
    with pytest.raises(SettingsError) as caught:
        Endpoint(f"http://me:{KEY}@a/v1")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "k\x00", "schlüssel", "a\r\nX-Header: b"])
def test_a_key_that_is_none_is_refused_and_not_shown(key):
    with pytest.raises(SettingsError, match="the endpoint's key holds a space or a character") as caught:
        Endpoint("http://a/v1", key=key)
    assert key not in str(caught.value)


def test_the_key_is_in_no_repr_and_taken_out_of_what_is_said():
    endpoint = Endpoint("http://a/v1", key=f" {KEY}\n")
    assert endpoint.key == KEY
    assert KEY not in repr(endpoint)
    assert endpoint.without_key(f"wrong key {KEY}!") == "wrong key …!"
    assert Endpoint("http://a/v1").without_key("as it is") == "as it is"


@pytest.mark.parametrize("name", ["", "  ", "x" * 501])
def test_a_name_that_no_model_has_is_refused(name):
    with pytest.raises(SettingsError, match="--llm"):
        Endpoint("http://a/v1", name)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "LOCALHOST")],
        *[(host, False) for host in ("localhost.evil.example", "10.0.0.1", "0.0.0.0", "models.example")],
    ],
)
def test_which_hosts_are_this_machine(host, loopback):
    assert is_loopback(host) is loopback


def test_this_machine_is_asked_directly_and_others_through_the_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://me:word@proxy.example:3128")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "near.example")
    assert Endpoint("http://127.0.0.1:8080").proxy == ""
    assert Endpoint("http://near.example/v1").proxy == ""
    assert Endpoint("http://far.example/v1").proxy == "http://me:word@proxy.example:3128"
    said = "http://far.example/v1 through the proxy http://proxy.example:3128 (not encrypted)"
    assert Endpoint("http://far.example/v1").route == said
    said = "https://far.example/v1 through the proxy http://proxy.example:3128"
    assert Endpoint("https://far.example/v1").route == said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
        ("http://192.168.1.5:11434", "http://192.168.1.5:11434/v1 (not encrypted)"),
        ("https://models.example/v1", "https://models.example/v1"),
    ],
)
def test_what_goes_over_a_network_in_the_open_is_said(url, said):
    assert Endpoint(url).route == said
