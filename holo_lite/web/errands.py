"""The first run from the page: what the doctor finds, and the model fetched and converted, by our own commands.

Each is the command of that name in a process of its own, so it does what a person gets who types it, and what was
cut off goes on when it is asked again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, get_args

from holo_lite.errors import SettingsError, first_three
from holo_lite.system.starting import importing_nothing_from_here
from holo_lite.worker.client import Record

Errand = Literal["doctor", "model"]
ERRANDS: tuple[Errand, ...] = get_args(Errand)
WANTED = {  # what a page may ask for: the variant of `fetch`, and where its files go
    "HoloCine-14B": ("sparse", Path("models/holocine")),
    "Wan 2.2 T2V A14B": ("wan22", Path("models/wan22")),
}
SCHEME = "nf4"  # what fits the smallest card
LEVELS = {"ok": "ok", "note": "note", "fix": "trouble"}
BY_SIGNAL = 128  # exit codes above it are those of a command that was asked to stop
PATIENCE = 20.0  # seconds in which a command that is asked to stop does


class Errands:
    """What may be asked of it, and how far it is. tell: called with nothing whenever a record has changed."""

    def __init__(self, folder: Path, tell: Callable[[], None], python: str = sys.executable) -> None:
        self._folder, self._tell = folder, tell
        self._words = [python, "-P", "-m", "holo_lite"]
        self._lock = threading.Lock()
        self._running: dict[Errand, subprocess.Popen[bytes] | None] = {}
        self._began = 0.0
        self.doctor: list[Record] | None = None
        self.fetching: Record | None = None

    def look(self) -> None:
        """Have the doctor look at this machine."""
        self._alone("doctor", self._doctor)

    def fetch(self, said: Any) -> None:
        """Offer the model with its terms; once they are agreed to, bring it. Raises `SettingsError`."""
        if isinstance(said, dict) and said.get("agree") is True:
            if self.fetching is None or said.get("what", self.fetching["what"]) != self.fetching["what"]:
                raise SettingsError("this is not offered yet; ask for it first, and read its licence")
            self._alone("model", self._bring)
            return
        what = said.get("what") if isinstance(said, dict) else None
        if what not in WANTED:
            raise SettingsError(f"what: there is {first_three(WANTED)}")
        self._alone("model", partial(self._offer, str(what)))

    def cancel(self) -> None:
        """Stop fetching or converting. What came stays, and goes on from there."""
        self._stop("model")

    def close(self) -> None:
        """Stop whatever runs."""
        for errand in ERRANDS:
            self._stop(errand)

    def _stop(self, errand: Errand) -> None:
        with self._lock:
            process = self._running.get(errand)
        if process is not None:
            process.terminate()

    def _alone(self, errand: Errand, work: Callable[[], None]) -> None:
        """Do something in a thread, if it is not being done. Raises `SettingsError` otherwise."""
        with self._lock:
            if errand in self._running:
                raise SettingsError("this is being done already; wait for it, or cancel it")
            self._running[errand] = None
        threading.Thread(target=self._done, args=(errand, work), daemon=True).start()

    def _done(self, errand: Errand, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._lock:
                del self._running[errand]

    def _doctor(self) -> None:
        self.doctor = None  # so that whoever waits can tell what comes from what was found before
        self._tell()
        found: list[bytes] = []
        code, said = self._run("doctor", ["doctor", "--json"], found.append)
        try:
            findings = json.loads(b"".join(found))["findings"]
            self.doctor = [
                {
                    "level": LEVELS[each["state"]],
                    "text": f"{each['what']}: {each['said']}",
                    "help": each["do"] or None,
                }
                for each in findings
            ]
        except (ValueError, LookupError, TypeError):
            why = f"the doctor could not look (exit code {code}): {said}"
            self.doctor = [{"level": "trouble", "text": why, "help": "holo-lite doctor"}]
        self._tell()

    def _offer(self, what: str) -> None:
        if self.fetching is not None and self.fetching["what"] != what:
            self.fetching = None
        self._say(what=what, state="asking", why=None)
        code, said = self._run("model", [*self._fetch_words(), "--dry-run"], self._hear)
        self._say(**({"state": "offered"} if code == 0 else {"state": "failed", "why": said}))

    def _bring(self) -> None:
        """Fetch, then convert; each goes on from where it was cut off."""
        source, variant = self._place, self._wanted[0]
        kind = [] if variant == "sparse" else ["--attention", "wan"]
        out = source.with_name(f"{source.name}-{SCHEME}")
        convert = ["quantize", str(source), str(out), "--scheme", SCHEME, *kind, "--progress", "json"]
        for state, words in (("fetching", [*self._fetch_words(), "--accept-licence"]), ("converting", convert)):
            self._say(state=state, why=None, done=None, total=None, left=None)
            code, said = self._run("model", words, self._hear)
            if code != 0:
                cancelled = code < 0 or code > BY_SIGNAL
                self._say(state="cancelled" if cancelled else "failed", why=None if cancelled else said)
                return
        self._say(state="done", why=None, left=None)

    @property
    def _wanted(self) -> tuple[str, Path]:
        assert self.fetching is not None, "something was asked for"
        return WANTED[self.fetching["what"]]

    @property
    def _place(self) -> Path:
        return self._folder / self._wanted[1]

    def _fetch_words(self) -> list[str]:
        return ["fetch", self._wanted[0], "--into", str(self._place), "--progress", "json"]

    def _hear(self, text: bytes) -> None:
        """Take a record of a command."""
        try:
            record = json.loads(text)
        except ValueError:
            return
        if record.get("kind") == "order":
            terms = "; ".join(f"{each['of']}: {each['licence']}" for each in record["licences"])
            self._say(bytes=record["room"], licence=terms)
        elif record.get("kind") == "phase":
            self._began = time.monotonic()
            self._say(done=record["done"], total=record["total"], left=None)
        elif record.get("kind") == "advance" and self.fetching is not None:
            self._say(done=record["done"], left=self._left(record["done"], self.fetching["total"]))

    def _left(self, done: int, total: int | None) -> float | None:
        spent = time.monotonic() - self._began
        return spent * (total - done) / done if total and done > 0 else None

    def _say(self, **fields: Any) -> None:
        empty = dict.fromkeys(("bytes", "done", "total", "left", "why"))
        before = self.fetching or {"what": "", "licence": "", "state": "", **empty}
        self.fetching = {**before, **fields}
        self._tell()

    def _run(self, errand: Errand, words: Sequence[str], hear: Callable[[bytes], Any]) -> tuple[int, str]:
        """Run one of our commands. Returns its exit code and the last line that it said to a person."""
        environment = importing_nothing_from_here(dict(os.environ))
        with subprocess.Popen(
            [*self._words, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        ) as process:
            with self._lock:
                self._running[errand] = process
            said: list[bytes] = []
            assert process.stdout is not None, "it was started with a pipe"
            assert process.stderr is not None, "it was started with a pipe"
            reader = threading.Thread(target=_last_line, args=(process.stderr, said), daemon=True)
            reader.start()
            for text in process.stdout:
                hear(text)
            code = process.wait()
            reader.join(PATIENCE)
        with self._lock:
            self._running[errand] = None
        last = said[-1].decode("utf-8", "replace").strip() if said else ""
        return code, last.removeprefix("error: ")


def _check(finding: Record) -> Record:
    """A finding of the doctor as a page has it."""
    text = f"{finding['what']}: {finding['said']}"
    return {"level": LEVELS[finding["state"]], "text": text, "help": finding["do"] or None}


def _last_line(errors: IO[bytes], said: list[bytes]) -> None:
    for text in errors:
        if text.strip():
            said[:] = [text]
