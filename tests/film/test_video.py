"""A film is whole or absent, says how it was made, and keeps its colours."""

import errno
import json
import os
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from durable import recorded

from holo_lite.errors import OutputError
from holo_lite.film import video
from holo_lite.film.video import VideoWriter, check_writable, is_blank, probe, read_metadata
from holo_lite.system import outputs
from holo_lite.system.outputs import write_output

WIDTH, HEIGHT = 112, 64
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40), (128, 128, 128)]
METADATA = json.dumps({"prompt": 'Zwölf "Boxkämpfer", 镜头 🎬 = ; # \\ \n ' * 300, "seed": 7}, ensure_ascii=False)


def flat(colour):
    return np.broadcast_to(np.array(colour, np.uint8), (HEIGHT, WIDTH, 3))


def write(path, *, frames=5, fps=15, metadata=METADATA, raises=None):
    with VideoWriter(path, width=WIDTH, height=HEIGHT, fps=fps, metadata=metadata) as writer:
        for index in range(frames):
            writer.add(flat(COLOURS[index % len(COLOURS)]))
        if raises is not None:
            raise raises
    return path


def decode(path):
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.fixture
def film(tmp_path):
    return write(tmp_path / "film.mp4")


@pytest.mark.parametrize("frames", [1, 5, 49])
def test_every_frame_is_there_and_counted(tmp_path, frames):
    film = write(tmp_path / "film.mp4", frames=frames)
    info = probe(film)
    assert (info.frames, info.width, info.height, info.fps) == (frames, WIDTH, HEIGHT, 15)
    assert info.duration == pytest.approx(frames / 15, rel=1e-3)
    assert len(decode(film)) == frames


def key_frames(path):
    """Numbers of the frames that a player can begin at, as the container's index has them."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        packets = [packet for packet in container.demux(stream) if packet.size]
        return sorted(round(p.pts * p.time_base * stream.average_rate) for p in packets if p.is_keyframe)


@pytest.mark.parametrize("still", [True, False], ids=["still", "moving"])
@pytest.mark.parametrize("fps", [0.4, 5, 16, 23.976])
@pytest.mark.parametrize("cuts", [(), (1,), (5, 6, 41, 117)], ids=str)
def test_a_player_can_jump_to_every_cut_and_waits_for_two_seconds_at_most(tmp_path, cuts, fps, still):
    """x264 itself begins a shot anew where the picture changes, and not where a cut shows nearly the same."""
    moving = np.random.default_rng(0).integers(0, 255, (3, HEIGHT, WIDTH, 3), np.uint8)
    with VideoWriter(tmp_path / "film.mp4", width=WIDTH, height=HEIGHT, fps=fps, cuts=cuts) as writer:
        for index in range(121):
            writer.add(moving[0] if still else np.roll(moving[index // 40 % 3], index, axis=1))
    keys = key_frames(tmp_path / "film.mp4")
    assert {0, *cuts} <= {*keys}
    assert max(after - before for before, after in pairwise([*keys, 121])) <= max(1, 2 * fps)
    assert len(decode(tmp_path / "film.mp4")) == 121


def test_what_follows_a_key_frame_needs_nothing_before_it(tmp_path):
    """The film from each cut on, with nothing before it, is the same to the bit."""
    frames = np.random.default_rng(1).integers(0, 255, (30, HEIGHT, WIDTH, 3), np.uint8)
    with VideoWriter(tmp_path / "film.mp4", width=WIDTH, height=HEIGHT, fps=15, cuts=(7, 18)) as writer:
        for frame in frames:
            writer.add(frame)
    whole = [picture.to_ndarray() for picture in decode(tmp_path / "film.mp4")]
    for cut in (7, 18):
        with av.open(str(tmp_path / "film.mp4")) as container:
            (stream,) = container.streams.video
            container.seek(round(cut / 15 / stream.time_base), stream=stream)
            after = [picture.to_ndarray() for picture in container.decode(video=0)]
        assert len(after) == 30 - cut
        assert all((a == b).all() for a, b in zip(after, whole[cut:], strict=True))


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(16.0, 16), (23.976, Fraction(2997, 125)), (Fraction(30000, 1001), Fraction(30000, 1001)), (12.5, 12.5)],
)
def test_frame_rates_need_not_be_whole(tmp_path, fps, expected):
    info = probe(write(tmp_path / "film.mp4", frames=30, fps=fps))
    assert info.fps == expected
    assert info.duration == pytest.approx(30 / fps, rel=1e-3)


def test_colours_survive_and_say_they_are_bt709(film):
    for colour, picture in zip(COLOURS, decode(film), strict=True):
        middle = picture.to_ndarray(format="rgb24")[HEIGHT // 2, WIDTH // 2].astype(int)
        assert np.abs(middle - colour).max() <= 3
        assert picture.colorspace == picture.color_primaries == picture.color_trc == 1
        assert picture.format.name == "yuv420p"


def test_rows_and_columns_are_not_swapped(tmp_path):
    frame = torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8)
    frame[:16, 64:] = 255
    with VideoWriter(tmp_path / "film.mp4", width=WIDTH, height=HEIGHT, fps=15) as writer:
        writer.add(frame)
    (picture,) = decode(tmp_path / "film.mp4")
    assert np.abs(picture.to_ndarray(format="rgb24").astype(int) - frame.numpy()).mean() < 3


def test_the_same_frames_make_the_same_file(tmp_path):
    """With x264's usual settings three of four files differ."""
    row, column = np.mgrid[0:240, 0:416]
    noise = np.random.default_rng(0).integers(0, 20, (240, 416))
    contents = set()
    for turn in range(8):
        with VideoWriter(tmp_path / "film.mp4", width=416, height=240, fps=15) as writer:
            for index in range(12):
                wave = 128 + 90 * np.sin((column + 3 * index) / 40) + np.roll(noise, 2 * index, axis=1)
                picture = np.stack([wave, 128 + 90 * np.cos((row - 2 * index) / 30), wave / 2], axis=-1)
                writer.add(picture.clip(0, 255).astype(np.uint8))
        contents.add((tmp_path / "film.mp4").read_bytes())
        np.full(100_000 * (turn + 1), turn, np.uint8)  # stir the memory that the next turn is given
    assert len(contents) == 1


def test_metadata_comes_back_to_the_letter(film):
    assert read_metadata(film) == METADATA


def test_the_index_stands_in_front(film):
    content = film.read_bytes()
    assert 0 < content.find(b"moov") < content.find(b"mdat")


@pytest.mark.parametrize("thrown", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("frames", [0, 60])
def test_nothing_is_left_when_the_work_breaks_off(tmp_path, thrown, frames):
    with pytest.raises(thrown):
        write(tmp_path / "film.mp4", frames=frames, raises=thrown)
    assert list(tmp_path.iterdir()) == []


def test_an_older_film_stays_until_the_new_one_is_whole(film):
    before = film.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write(film, frames=9, raises=KeyboardInterrupt)
    assert film.read_bytes() == before
    write(film, frames=9)
    assert probe(film).frames == 9
    assert list(film.parent.iterdir()) == [film]


def test_nothing_bears_the_final_name_while_it_is_written(tmp_path):
    with VideoWriter(tmp_path / "film.mp4", width=WIDTH, height=HEIGHT, fps=15) as writer:
        writer.add(flat(COLOURS[0]))
        assert not (tmp_path / "film.mp4").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def replace(_source, _target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("holo_lite.system.whole_files.os.replace", replace)
    with pytest.raises(OutputError, match="the disk is full; free some space"):
        write(tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_ffmpegs_own_error_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "CRF", "no number")
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_frame_of_another_size_is_our_mistake(tmp_path):
    with (
        pytest.raises(AssertionError, match="shape"),
        VideoWriter(tmp_path / "film.mp4", width=HEIGHT, height=WIDTH, fps=15) as writer,
    ):
        writer.add(flat(COLOURS[0]))


def test_missing_folders_are_made(tmp_path):
    check_writable(tmp_path / "a" / "b" / "film.mp4")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_places_that_cannot_be_written_are_refused_before_any_work(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").write_text("")
    for path, named in (
        (tmp_path / "film.avi", r"film\.mp4"),
        (tmp_path / "film", r"film\.mp4"),
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "file" / "film.mp4", "cannot be written"),
        (tmp_path / "file" / "deeper" / "film.mp4", "cannot be written"),
    ):
        with pytest.raises(OutputError, match=named):
            check_writable(path)
        with pytest.raises(OutputError, match=named):
            write(path)


@pytest.mark.parametrize("read", [probe, read_metadata])
def test_what_is_no_video_is_told_in_one_line(tmp_path, film, read):
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "torn.mp4").write_bytes(film.read_bytes()[:700])
    for name in ("text.mp4", "empty.mp4", "torn.mp4", "missing.mp4", "."):
        with pytest.raises(OutputError) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metadata", [None, "a comment of someone else's", "[1, 2]"])
def test_foreign_videos_carry_no_metadata(tmp_path, metadata):
    film = write(tmp_path / "film.mp4", metadata=metadata)
    assert probe(film).frames == 5
    with pytest.raises(OutputError, match="carries no holo-lite metadata"):
        read_metadata(film)


def test_tags_that_are_no_utf8_are_not_in_the_way(tmp_path):
    film = write(tmp_path / "film.mp4", metadata='{"title": "caf\xe9"}')
    film.write_bytes(film.read_bytes().replace("caf\xe9".encode(), b"caf\xe9\xe9"))
    assert probe(film).frames == 5
    assert json.loads(read_metadata(film))["title"].startswith("caf")


def test_no_pipe_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "film.mp4")
    for read in (probe, read_metadata, is_blank):
        with pytest.raises(OutputError, match="pipe"):
            read(tmp_path / "film.mp4")


@pytest.mark.parametrize(("content", "blank"), [(b"", True), (bytes(3_000_000), True), (bytes(5) + b"x", False)])
def test_what_a_power_cut_leaves_is_blank(tmp_path, content, blank):
    (tmp_path / "film.mp4").write_bytes(content)
    assert is_blank(tmp_path / "film.mp4") is blank


FILLING = """
import json, resource, sys
import numpy as np
from pathlib import Path
from holo_lite.errors import OutputError
from holo_lite.film.video import VideoWriter
from holo_lite.film.video_thread import encoding_behind

rng, found = np.random.default_rng(0), {}
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
for limit in sys.argv[1:]:
    Path(limit).mkdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), most))
    try:
        writer = VideoWriter(Path(limit, "v.mp4"), width=64, height=64, fps=15, metadata='{}')
        with encoding_behind(writer) as video:
            for _ in range(90):
                video.add(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    except OutputError as error:
        found[limit] = str(error)
print(json.dumps(found))
"""
ROOM = ("0", "1", "5000", "100000")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A process that fills one disk after the other, where it left the videos, and what it says of each."""
    folder = tmp_path_factory.mktemp("full")
    command = [sys.executable, "-c", FILLING, *ROOM]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False), folder


@pytest.mark.skipif(os.name == "nt", reason="limits on files are POSIX's")
@pytest.mark.parametrize("room", ROOM)
def test_a_disk_that_is_full_ends_in_one_line_and_not_in_a_crash(filled, room):
    """The first frames that FFmpeg cannot write are followed by others, which wait already."""
    ended, folder = filled
    assert ended.returncode == 0, ended
    assert len(json.loads(ended.stdout)[room].splitlines()) == 1
    assert list((folder / room).iterdir()) == []


def test_a_name_that_no_file_can_have_is_refused_before_any_work(tmp_path):
    with pytest.raises(OutputError, match="File name too long"):
        check_writable(tmp_path / ("a" * 252 + ".mp4"))
    write(tmp_path / ("a" * 251 + ".mp4"))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_video_has_its_name_once_it_is_on_the_disk(tmp_path, monkeypatch):
    calls = recorded(monkeypatch)
    write(tmp_path / "film.mp4")
    assert calls == ["fsync file", "replace film.mp4", "fsync folder"]


@pytest.mark.parametrize("write", [check_writable, lambda path: write_output(path, b"1")])
def test_nothing_is_written_to_a_device_of_windows(write, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "WINDOWS", True)
    with pytest.raises(OutputError, match=r"con\.mp4: Windows takes this name for a device; .* my-con\.mp4$"):
        write(tmp_path / "con.mp4")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(outputs, "WINDOWS", False)
    write(tmp_path / "con.mp4")
