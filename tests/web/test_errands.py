"""The first run from the page: commands in processes of their own, told as they come, and cancelled."""

import json
import stat
import sys
import threading
import time

import pytest

from holo_lite.errors import SettingsError
from holo_lite.web.errands import Errands

HOLOCINE = {"what": "HoloCine-14B"}
ORDER = {
    "kind": "order",
    "folder": "models/holocine",
    "bytes": 70,
    "room": 60,
    "free": 90,
    "licences": [{"of": "someone/model", "licence": "for research"}],
}
FETCH = [{"kind": "phase", "phase": "fetch", "total": 60, "done": 10}, {"kind": "advance", "done": 40}]
FINDINGS = [
    {"what": "Python", "state": "ok", "said": "3.11", "do": ""},
    {"what": "card", "state": "fix", "said": "none", "do": "buy one"},
]
STUB = """#!{python}
import json, sys, time
words = sys.argv[1:]
assert words[:3] == ["-P", "-m", "holo_lite"], words
command = words[3]
with open({log!r}, "a") as log:
    log.write(" ".join(words[3:]) + "\\n")
say = lambda records: [print(json.dumps(each), flush=True) for each in records]
if command == "doctor":
    print(json.dumps({{"findings": {findings!r}}}))
elif command == "fetch":
    say([{order!r}])
    if "--dry-run" not in words:
        say({fetch!r})
        {between}
        sys.stderr.write("bar\\nerror: {why}\\n" if {fails} else "")
        sys.exit(2 if {fails} else 0)
elif command == "quantize":
    say([{{"kind": "phase", "phase": "convert", "total": 4, "done": 0}}, {{"kind": "advance", "done": 4}}])
"""


@pytest.fixture
def errands(tmp_path):
    def of(between="pass", fails=False, why=""):
        stub, log = tmp_path / "python", tmp_path / "log"
        parts = {"findings": FINDINGS, "order": ORDER, "fetch": FETCH}
        stub.write_text(
            STUB.format(python=sys.executable, log=str(log), between=between, fails=fails, why=why, **parts),
            encoding="utf-8",
        )
        stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
        told = []
        found = Errands(
            tmp_path, lambda: told.append(json.loads(json.dumps([found.doctor, found.fetching]))), str(stub)
        )
        return found, told, log

    return of


def until(true):
    end = time.monotonic() + 300
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    assert true()


def idle(found):
    until(lambda: not found._running)


def test_the_doctor_says_what_is_there_and_what_to_do(errands):
    found, told, _ = errands()
    found.look()
    idle(found)
    assert found.doctor == [
        {"level": "ok", "text": "Python: 3.11", "help": None},
        {"level": "trouble", "text": "card: none", "help": "buy one"},
    ]
    assert told[-1][0] == found.doctor


def test_nothing_is_fetched_before_its_terms_were_shown_and_agreed_to(errands):
    found, _, log = errands()
    with pytest.raises(SettingsError, match="licence"):
        found.fetch({"agree": True})
    found.fetch(HOLOCINE)
    idle(found)
    assert (found.fetching["state"], found.fetching["bytes"]) == ("offered", 60)
    assert found.fetching["licence"] == "someone/model: for research"
    assert "--dry-run" in log.read_text()


def test_it_is_fetched_and_then_converted(errands):
    found, told, log = errands()
    for said in (HOLOCINE, {"agree": True}):
        found.fetch(said)
        idle(found)
    assert found.fetching["state"] == "done"
    states = [each[1]["state"] for each in told]
    assert list(dict.fromkeys(states)) == ["asking", "offered", "fetching", "converting", "done"]
    assert any(each[1]["done"] == 40 and each[1]["total"] == 60 and each[1]["left"] >= 0 for each in told)
    lines = log.read_text().splitlines()
    assert lines[1].endswith("--progress json --accept-licence")
    assert lines[2].startswith("quantize ")


def test_what_went_wrong_is_the_commands_own_line_and_nothing_is_converted(errands):
    found, _, log = errands(fails=True, why="the hub is out of reach; try again")
    for said in (HOLOCINE, {"agree": True}):
        found.fetch(said)
        idle(found)
    assert (found.fetching["state"], found.fetching["why"]) == ("failed", "the hub is out of reach; try again")
    assert "quantize" not in log.read_text()


def test_it_is_cancelled_in_the_middle_and_two_things_are_never_done_at_once(errands):
    found, _, log = errands(between="time.sleep(600)")
    found.fetch(HOLOCINE)
    idle(found)
    threading.Thread(target=found.fetch, args=({"agree": True},)).start()
    until(lambda: found.fetching["done"] == 40)
    with pytest.raises(SettingsError, match="already"):
        found.fetch(HOLOCINE)
    found.look()  # which is no part of it
    until(lambda: found.doctor)
    found.cancel()
    idle(found)
    assert found.fetching["state"] == "cancelled"
    assert "quantize" not in log.read_text()


def test_the_base_model_is_brought_into_a_folder_of_its_own_and_told_as_what_it_is(errands):
    found, _, log = errands()
    for said in ({"what": "Wan 2.2 T2V A14B"}, {"what": "Wan 2.2 T2V A14B", "agree": True}):
        found.fetch(said)
        idle(found)
    assert (found.fetching["what"], found.fetching["state"]) == ("Wan 2.2 T2V A14B", "done")
    lines = log.read_text().splitlines()
    assert all("models/wan22" in line for line in lines)
    assert lines[1].startswith("fetch wan22 ")
    assert "--attention wan" in lines[2]


def test_only_what_was_offered_is_brought(errands):
    found, _, log = errands()
    for wrong in ({}, {"what": "../x"}, {"what": 3}, None):
        with pytest.raises(SettingsError, match="what"):
            found.fetch(wrong)
    found.fetch(HOLOCINE)
    idle(found)
    with pytest.raises(SettingsError, match="licence"):
        found.fetch({"what": "Wan 2.2 T2V A14B", "agree": True})
    assert len(log.read_text().splitlines()) == 1
