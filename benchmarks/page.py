"""What the storyboard page costs: how soon it is there, how much memory its server takes, how much is sent.

    python -m benchmarks.page [--repeats 5] [--model FOLDER]

The server is started as `holo-lite studio` starts it, and asked as a browser asks. Memory is the resident set of
the server's process alone: PyTorch must not be in it, which is looked up in its memory map. With the folder of a
model, what its vocabulary takes is measured, too. How late a record reaches a page is measured from the moment at
which a change is sent. Bytes are those on the wire. Prints a table, then one line of JSON.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import httpx2
import psutil

from holo_lite.web.routes import STATIC

GUARD = 120.0
HEARD = 40  # records whose way to the page is timed
TARGETS = {
    "first page, s": 1.5,
    "idle, MB": 120.0,
    "with a vocabulary, MB": 400.0,
    "first page, kB": 150.0,
    "record to page, s": 0.5,
}


@dataclass(frozen=True)
class Page:
    """A server that runs, and a client that is let in. seconds: from its start until the page was there."""

    process: psutil.Process
    client: httpx2.Client
    seconds: float

    @property
    def megabytes(self) -> float:
        """What its process holds in memory."""
        return self.process.memory_info().rss / 1e6

    @property
    def cpu_seconds(self) -> float:
        """What its process has computed so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def has_torch(self) -> bool:
        """Whether PyTorch's library is mapped into it."""
        return any("libtorch" in each.path for each in self.process.memory_maps())


@contextmanager
def served(folder: Path, *words: str) -> Iterator[Page]:
    """A server of its own."""
    start = time.perf_counter()
    line = [sys.executable, "-P", "-m", "holo_lite", "studio", str(folder), "--no-browser", *words]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8") as process:
        assert process.stdout is not None, "it was started with a pipe"
        link = re.search(r"http\S+", process.stdout.readline())
        assert link is not None, "it prints its address"
        with httpx2.Client(headers={"X-Holo": "1"}, base_url=link[0].split("/?")[0]) as client:
            client.get(link[0], follow_redirects=True).raise_for_status()
            try:
                yield Page(psutil.Process(process.pid), client, time.perf_counter() - start)
            finally:
                process.terminate()
                process.wait(GUARD)


def first_page(client: httpx2.Client) -> tuple[int, int]:
    """Requests and bytes until the page stands: every file of it, and the first records, without pictures."""
    files = [f"/static/{path.name}" for path in STATIC.iterdir() if path.suffix != ".ts"]
    sizes = [client.get(address).num_bytes_downloaded for address in ("/", *files)]
    with client.stream("GET", "/api/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                sizes.append(len(line))
                break
    return len(sizes), sum(sizes)


def write(client: httpx2.Client) -> None:
    """A draft whose tokens can be counted."""
    board = client.post("/api/board", json={"op": "scene", "text": "A fox."}).json()
    for shot in board["shots"]:
        client.post("/api/board", json={"op": "caption", "shot": shot["id"], "text": "It runs."}).raise_for_status()


def record_delays(folder: Path, count: int = HEARD) -> list[float]:
    """Seconds from a record that the queue hears to the page that reads it."""
    heard: dict[int, float] = {}
    delays: list[float] = []
    with served(folder) as page, page.client.stream("GET", "/api/events", timeout=GUARD) as stream:
        lines = stream.iter_lines()
        title = 0
        for line in lines:
            if line.startswith("event: snapshot"):
                break
        asking = threading.Thread(target=_ask, args=(page.client.base_url, page.client.cookies, heard, count))
        asking.start()
        for line in lines:
            found = re.search(r'"title": "(\d+)"', line) if line.startswith("data: ") else None
            if found and int(found[1]) not in range(title):
                delays.append(time.perf_counter() - heard[int(found[1])])
                title = int(found[1]) + 1
            if title == count:
                break
        asking.join()
    return delays


def _ask(base: httpx2.URL, cookies: httpx2.Cookies, heard: dict[int, float], count: int) -> None:
    with httpx2.Client(base_url=base, cookies=cookies, headers={"X-Holo": "1"}) as client:
        for number in range(count):
            heard[number] = time.perf_counter()
            client.post("/api/board", json={"op": "title", "text": str(number)}).raise_for_status()


def measure(repeats: int, model: Path | None) -> dict[str, float]:
    """All figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds, idle, computed = [], [], []
        for _ in range(repeats):
            with served(folder) as page:
                computed.append(page.cpu_seconds)
                requests, nbytes = first_page(page.client)
                time.sleep(1)
                assert not page.has_torch(), "PyTorch is in the server"
                seconds.append(page.seconds)
                idle.append(page.megabytes)
        found = {
            "first page, s": statistics.median(seconds),
            "first page, CPU s": statistics.median(computed),
            "idle, MB": statistics.median(idle),
        }
        if model is not None:
            with served(folder, "--model", str(model)) as page:
                write(page.client)
                found["with a vocabulary, MB"] = page.megabytes
        found["first page, kB"], found["requests"] = nbytes / 1e3, float(requests)
        found["record to page, s"] = max(record_delays(folder))
    return found


@click.command()
@click.option("--repeats", default=5, show_default=True)
@click.option("--model", type=click.Path(path_type=Path))
def main(repeats: int, model: Path | None) -> None:
    """Measure what the storyboard page costs."""
    found = measure(repeats, model)
    for name, value in found.items():
        target = f"   target ≤ {TARGETS[name]:g}" if name in TARGETS else ""
        print(f"{name:24} {value:10.3f}{target}")
    print(json.dumps({"benchmark": "page", "load": os.getloadavg()[0], **found}))


if __name__ == "__main__":
    main()
