"""A file is whole under its name, or it is not there, or it is the one that was."""

import os

import pytest
from dying import in_child

from holo_lite.system import whole_files
from holo_lite.system.file_names import is_device
from holo_lite.system.whole_files import Draft, draft, sweep, write_whole


def test_a_file_replaces_an_older_and_leaves_nothing_beside_it(tmp_path):
    for content in (b"first", b"second"):
        write_whole(tmp_path / "a", content)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"second")]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_is_cut_off_leaves_the_older_one(tmp_path, error):
    write_whole(tmp_path / "a", b"first")

    def cut_off():
        with draft(tmp_path / "a") as partial:
            partial.write_bytes(b"sec")
            assert partial.parent == tmp_path, "a rename is whole only within a folder"
            raise error

    with pytest.raises(error):
        cut_off()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"first")]


def test_a_name_that_cannot_be_taken_leaves_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    for path in (tmp_path / "a", tmp_path / "nowhere" / "a"):
        with pytest.raises(OSError, match=r"directory|exists"):
            write_whole(path, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    path, other = tmp_path / "a[1].mp4", tmp_path / "b.mp4"

    def killed_within():
        for each in (path, other):
            Draft(each).partial.write_bytes(b"half")

    assert in_child(killed_within) == 0
    (of_other,) = tmp_path.glob(".b.mp4.*.part")
    kept = {
        of_other,
        Draft(path).partial,
        tmp_path / ".a[1].mp4.mine.part",
        tmp_path / ".a[1].mp4.12-1-2.part",
        path,
    }
    for each in kept - {of_other}:
        each.write_bytes(b"")
    sweep(path)
    assert set(tmp_path.iterdir()) == kept
    sweep(tmp_path / "nowhere" / "a.mp4")


def test_on_windows_a_file_that_somebody_has_open_is_waited_for(tmp_path, monkeypatch):
    given, tries = os.replace, []

    def busy(source, target):
        tries.append(source)
        if len(tries) < 3:
            raise PermissionError(13, "used by another process", str(target))
        given(source, target)

    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(whole_files, "BUSY", (0.0, 0.0, 0.0))
    with pytest.raises(PermissionError):  # elsewhere nobody can be in the way
        write_whole(tmp_path / "a", b"1")
    monkeypatch.setattr(whole_files, "WINDOWS", True)
    tries.clear()
    write_whole(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"2"
    assert len(tries) == 3
    monkeypatch.setattr(whole_files, "BUSY", (0.0,))
    tries.clear()
    with pytest.raises(PermissionError):
        write_whole(tmp_path / "a", b"3")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"2"]


@pytest.mark.parametrize("name", ["con", "NUL", "aux.mp4", "Com1.toml", "lpt9 .txt", "conin$", "prn.tar.gz"])
def test_names_of_devices_are_known(name):
    assert is_device(name)


@pytest.mark.parametrize("name", ["console", "film-con", "com", "com10", "a.con", "nul-2.mp4", ""])
def test_other_names_are_those_of_files(name):
    assert not is_device(name)
