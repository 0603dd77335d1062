"""What a bug report says of a machine: enough to reproduce a fault, and nothing of whose machine it is."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from test_doctor import WELL

from holo_lite.doctor import report as report_module
from holo_lite.doctor.checkout import source
from holo_lite.doctor.private import without_names
from holo_lite.doctor.programs import program
from holo_lite.doctor.report import BESIDES, EXTRAS, REQUIRED, SETTINGS, hardware, processor, report, versions
from holo_lite.plan.container import MemoryLimit
from holo_lite.version import __version__
from holo_lite.views.doctor import report_json

ROOT = Path(__file__).parents[2]
TRAP = '#!/bin/sh\necho sprung >> "{trap}"\necho {commit}\n'
COMMIT = "ab" * 20
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
posix = pytest.mark.skipif(os.name == "nt", reason="the traps are scripts of POSIX")


def git(folder, *words):
    """Git as a person has it, in a folder."""
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, "-C", folder, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A repository with a package in it."""
    root = tmp_path / "checkout"
    (root / "holo_lite").mkdir(parents=True)
    (root / "holo_lite" / "version.py").write_text("1")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def trap(path, sprung):
    """A script that says when it is run."""
    path.write_text(TRAP.format(trap=sprung, commit=COMMIT))
    path.chmod(0o755)
    return path


# --- the commit ------------------------------------------------------------------------------------


@needs_git
def test_a_checkout_names_its_commit_and_whether_it_was_changed(checkout):
    found = source(checkout)
    assert (found.version, found.commit, found.changed) == (__version__, git(checkout, "rev-parse", "HEAD"), False)
    (checkout / "notes.txt").write_text("none of the program's files")
    assert source(checkout).changed is False
    (checkout / "holo_lite" / "version.py").write_text("2")
    assert source(checkout).changed is True


@needs_git
def test_a_package_installed_inside_somebodys_repository_has_no_commit(checkout):
    place = checkout / ".venv" / "lib" / "site-packages"
    place.mkdir(parents=True)
    assert source(place).commit is None


@needs_git
@posix
def test_nothing_that_a_repository_configures_is_run(checkout, tmp_path):
    sprung = tmp_path / "sprung"
    script = trap(tmp_path / "script", sprung)
    for name in ("post-index-change", "reference-transaction", "post-checkout"):
        shutil.copy(script, checkout / ".git" / "hooks" / name)
    for key in ("core.fsmonitor", "core.pager", "pager.status", "core.sshCommand", "diff.external"):
        git(checkout, "config", key, str(script))
    (checkout / "holo_lite" / "version.py").write_text("22")
    sprung.unlink(missing_ok=True)
    assert source(checkout).changed is True
    assert not sprung.exists()


@needs_git
def test_the_current_folder_and_the_environment_choose_no_repository(checkout, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(checkout))
    assert source(other).commit is None
    expected = source(checkout)
    monkeypatch.chdir(other)
    assert source(checkout) == expected
    assert expected.commit


@posix
@pytest.mark.parametrize("path", [".", "", "{here}"])
def test_no_program_of_the_current_folder_is_run(tmp_path, monkeypatch, path):
    trap(tmp_path / "git", tmp_path / "sprung")
    trap(tmp_path / "nvidia-smi", tmp_path / "sprung")
    (tmp_path / "root" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path.format(here=tmp_path))
    assert program("git") is None
    assert program("nvidia-smi") is None
    assert source(tmp_path / "root").commit is None
    assert not (tmp_path / "sprung").exists()


@posix
def test_a_git_that_does_not_end_costs_no_more_than_patience(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "root" / ".git").mkdir(parents=True)
    script = tmp_path / "bin" / "git"
    script.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(600)\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("holo_lite.doctor.checkout.PATIENCE", 0.2)
    assert source(tmp_path / "root").commit is None


# --- versions and hardware -------------------------------------------------------------------------


def test_every_requirement_and_extra_is_named():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(requirements):
        return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}

    assert set(REQUIRED) == names(project["dependencies"])
    extras = project["optional-dependencies"]
    assert set(EXTRAS) == names(one for name, many in extras.items() if name != "dev" for one in many)


def test_what_is_missing_is_told_apart_from_what_may_be(monkeypatch):
    monkeypatch.setattr(report_module, "_version", {"torch": "2.13.0", "triton": "3.5"}.get)
    found = versions()
    assert found.installed == {"torch": "2.13.0", "triton": "3.5"}
    assert set(found.missing) == {*REQUIRED} - {"torch"}
    assert set(found.not_installed) == {*EXTRAS, *BESIDES} - {"triton"}


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: AMD Ryzen 9 7950X 16-Core Processor\n",
            "AMD Ryzen 9 7950X 16-Core Processor",
        ),
        ("processor\t: 0\nModel\t\t: Raspberry Pi 5\n", "Raspberry Pi 5"),
        ("", ""),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="reads a table of Linux")
def test_the_processor_is_named_as_its_maker_did(tmp_path, table, name):
    (tmp_path / "cpuinfo").write_text(table)
    assert processor(tmp_path / "cpuinfo") == name
    assert processor(tmp_path / "none") == ""


@pytest.mark.parametrize(("limit", "said"), [(2**63 - 4096, None), (2**20, 2**20)])
def test_a_limit_above_all_memory_is_none(monkeypatch, limit, said):
    monkeypatch.setattr(report_module, "tightest", lambda: MemoryLimit(limit, limit))
    assert hardware().container_limit == said


def test_the_memory_and_the_system_are_named():
    found = hardware()
    assert 0 < found.ram_free <= found.ram
    assert found.threads
    assert found.kernel
    assert found.distribution or sys.platform == "linux"


# --- what stays private ----------------------------------------------------------------------------


def test_no_value_of_a_variable_is_in_a_report(monkeypatch):
    for name in (*SETTINGS, "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret-of-mine")
    found = report()
    assert set(found.is_set.values()) == {True}
    assert "secret-of-mine" not in repr(found)
    assert "AWS" not in repr(found)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("/home/alice", "~"),
        ("/home/alice/models/holocine", "~/models/holocine"),
        ("see /home/alice/x, /home/alice", "see ~/x, ~"),
        ("/home/alices/x", "/home/alices/x"),
        ("/mnt/home/alice/x", "/mnt/home/USER/x"),
        ("/media/alice/disk", "/media/USER/disk"),
        (r"C:\Users\alice\x", r"C:\Users\USER\x"),
        ("alice in words", "alice in words"),
    ],
)
def test_homes_and_users_are_not_named(said, shown):
    found = without_names({"a": [Path("/home/alice/x"), said, 1, None]}, Path("/home/alice"), ["alice"])
    assert found == {"a": ["~/x", shown, 1, None]}


def test_a_home_that_is_the_root_shortens_nothing():
    assert without_names("/models", Path("/"), [""]) == "/models"


def test_the_json_holds_versions_and_hardware():
    told = json.loads(report_json((), WELL, Path.home(), ["somebody"]))
    assert (told["holo_lite"], told["commit"], told["changed"]) == (__version__, COMMIT, False)
    assert told["surroundings"]["report"]["versions"]["installed"] == {"torch": "2.13.0"}
    assert told["surroundings"]["report"]["hardware"]["processor"] == "a processor"
