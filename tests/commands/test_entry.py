"""How the program starts and ends: from any folder, stopped at any moment, with any place for its messages."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from holo_lite.doctor.apart import look_apart

ROOT = Path(__file__).parent.parent.parent
STOPPED_AT = """
import os, signal, sys

class Stopping:
    def find_spec(self, name, *_):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Stopping())
import cli
cli.main()
"""
TRAP = 'import os\nopen(os.environ["TRAP"], "a").write(__name__)\n'
TINY = ("--height", "16", "--width", "16", "--steps", "1", "--cfg", "1", "--frames", "5")


def here(tmp_path, *names):
    """A folder with files that say when they are imported; what such an import writes to is returned."""
    for name in names:
        (tmp_path / f"{name}.py").write_text(TRAP)
    return {**os.environ, "TRAP": str(tmp_path / "sprung"), "PYTHONPATH": str(ROOT)}


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize(
    "name", ["holo_lite.commands.stopping", "click", "holo_lite.commands.group", "rich.console", "torch", "numpy"]
)
def test_stopped_while_it_starts_it_says_one_line_at_most(tmp_path, name):
    (tmp_path / "s.pth").touch()
    words = [sys.executable, "-c", STOPPED_AT.format(name=name), "inspect", "s.pth"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode in {130, -signal.SIGINT}, ended
    assert ended.stderr.strip() in {"", "interrupted; no half-written file is left"}
    assert ended.stdout == ""


@pytest.mark.parametrize("start", [["-m", "cli"], ["-c", "import cli; cli.main()"], [str(ROOT / "cli.py")]])
def test_nothing_of_the_current_folder_is_imported(tmp_path, start):
    environment = here(tmp_path, "rich", "pickle", "profiles", "av", "safetensors", "torch", "tomllib")
    (tmp_path / "s.txt").write_text("a road by the sea")
    words = [sys.executable, *start, "inspect", "s.txt"]
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not (tmp_path / "sprung").exists()


def nothing(_):
    return os.getpid()


@pytest.mark.parametrize("places", [None, "", f"{ROOT}{os.pathsep}"])
def test_the_doctors_helper_imports_nothing_of_the_current_folder(tmp_path, monkeypatch, places):
    environment = here(tmp_path, "pickle", "socket", "random", "selectors", "_compat_pickle", "tempfile")
    monkeypatch.setenv("TRAP", environment["TRAP"])
    monkeypatch.delenv("PYTHONPATH", raising=False) if places is None else monkeypatch.setenv("PYTHONPATH", places)
    monkeypatch.setattr(sys, "path", [str(ROOT / "tests"), *filter(None, sys.path), str(ROOT)])
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    ((_, found),) = look_apart(nothing, ["x"], 120.0)
    assert isinstance(found, int), found
    assert not (tmp_path / "sprung").exists()
    assert dict(os.environ) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("place", ["full", "closed", "no reader"])
def test_messages_that_cannot_be_written_end_no_run(tmp_path, place):
    command = [sys.executable, str(ROOT / "cli.py"), "generate", "a road", *TINY, "--out", "v.mp4"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if place == "closed":
        ended = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *command], cwd=tmp_path, env=environment)
    else:
        reading, writing = os.pipe()
        os.close(reading)
        stream = open("/dev/full", "wb") if place == "full" else os.fdopen(writing, "wb")  # noqa: SIM115
        ended = subprocess.run(command, cwd=tmp_path, env=environment, stderr=stream)
    assert ended.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.latents.safetensors", "v.mp4", "v.png"]


def test_a_reader_that_has_gone_is_no_mistake(tmp_path):
    (tmp_path / "s.txt").write_text("a road by the sea")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, str(ROOT / "cli.py"), "inspect", "s.txt"]
    ended = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (141, "")
