"""The server as it is started: its address, its lock, its end, and what many or slow strangers do to it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress

import httpx2
import psutil
import pytest

GUARD = 300.0
MANY = 200


@contextmanager
def served(folder, *words):
    """A server of its own: its process and its address."""
    line = [sys.executable, "-P", "-m", "holo_lite", "studio", str(folder), "--no-browser", *words]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        link = re.search(r"http\S+", first)
        assert link, (first, process.stderr.read() if process.poll() is not None else "")
        try:
            yield process, link[0]
        finally:
            process.kill()


@contextmanager
def client(link):
    with httpx2.Client(base_url=link.split("/?")[0], headers={"X-Holo": "1"}, timeout=GUARD) as found:
        assert found.get(link, follow_redirects=True).status_code == 200
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with served(tmp_path_factory.mktemp("films")) as found:
        yield found


def test_the_server_is_without_torch_and_small(page):
    process, link = page
    with client(link) as asking:
        assert asking.get("/api/files").json() == []
    found = psutil.Process(process.pid)
    assert not any("libtorch" in each.path for each in found.memory_maps())
    assert found.memory_info().rss < 120e6


def test_it_listens_on_this_machine_alone(page):
    process, _ = page
    found = psutil.Process(process.pid).net_connections(kind="inet")
    assert {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_nobody_takes_the_page_away_by_being_slow_or_many(page):
    _, link = page
    host, port = re.search(r"//([^:/]+):(\d+)", link).groups()
    with ExitStack() as stack:
        for _ in range(MANY):  # heads that never end
            door = stack.enter_context(socket.create_connection((host, int(port))))
            door.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        asking = stack.enter_context(client(link))
        cookies = "; ".join(f"{each.name}={each.value}" for each in asking.cookies.jar)
        for _ in range(MANY):
            door = stack.enter_context(socket.create_connection((host, int(port))))
            head = f"GET /api/events HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookies}\r\n\r\n"
            door.sendall(head.encode())
        board = asking.post("/api/board", json={"op": "title", "text": "still here"}).json()
        assert board["title"] == "still here"


def test_a_head_without_end_is_refused(page):
    _, link = page
    host, port = re.search(r"//([^:/]+):(\d+)", link).groups()
    with socket.create_connection((host, int(port))) as door:
        door.settimeout(GUARD)
        door.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n")
        with suppress(ConnectionResetError):
            assert b" 400 " in door.recv(100)


def test_a_second_server_of_a_folder_is_refused_in_one_line(page, run):
    process, _ = page
    folder = psutil.Process(process.pid).cmdline()[5]
    outcome = run("studio", folder, "--no-browser")
    assert outcome.code == 2
    assert "another studio" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_a_folder_that_is_not_there_is_one_line(run, tmp_path):
    outcome = run("studio", tmp_path / "none", "--no-browser")
    assert outcome.code == 2
    assert "no folder" in outcome.err


def test_a_taken_port_is_one_line_and_without_one_the_next_is_taken(page, run, tmp_path):
    _, link = page
    port = re.search(r":(\d+)/", link)[1]
    outcome = run("studio", tmp_path, "--no-browser", "--port", port)
    assert outcome.code == 2
    assert f"port {port}" in outcome.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_well_when_it_is_asked_to_with_a_page_open(tmp_path, number):
    with served(tmp_path) as (process, link), client(link) as asking:
        with asking.stream("GET", "/api/events") as stream:
            lines = stream.iter_lines()
            while not next(lines).startswith("data: "):
                pass
            process.send_signal(number)
            assert process.wait(GUARD) == 0
        assert process.stderr.read().count("\n") <= 1


def test_a_killed_server_comes_back_with_its_address_and_its_draft(tmp_path):
    with served(tmp_path) as (process, link), client(link) as asking:
        port = re.search(r":(\d+)/", link)[1]
        asking.post("/api/board", json={"op": "scene", "text": "A fox."}).raise_for_status()
        process.kill()
        process.wait(GUARD)
        with served(tmp_path, "--port", port) as (_, again):
            assert again == link
            assert "A fox." in _snapshot(asking)
    assert oct(os.stat(tmp_path / ".holo-lite" / "token").st_mode)[-3:] == "600"


def _snapshot(asking):
    end = time.monotonic() + GUARD
    while time.monotonic() < end:
        with asking.stream("GET", "/api/events") as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    return line
    raise AssertionError("nothing was told")


def test_films_on_each_card_or_on_all_together_is_one_choice(run, tmp_path):
    outcome = run("studio", tmp_path, "--no-browser", "--device", "cuda:0,cuda:1", "--devices", "cuda:0,cuda:1")
    assert outcome.code == 2
    assert "give one of them" in outcome.err


@pytest.mark.parametrize("names", ["cuda:0,cuda:0", "cuda:0,", ","])
def test_devices_that_make_no_sense_are_one_line(run, tmp_path, names):
    outcome = run("studio", tmp_path, "--no-browser", "--device", names)
    assert outcome.code == 2
    assert "once" in outcome.err
