"""Encoding behind the decoder's back: the same file, in order, within bounds, and no error lost."""

import threading

import av
import numpy as np
import pytest
import torch
from guard import HANGS
from toy_files import toy_model

from holo_lite import Options, Pipeline, Shot, Storyboard
from holo_lite.errors import OutputError
from holo_lite.events import FrameDone
from holo_lite.film.video import VideoWriter
from holo_lite.film.video_thread import MOST_WAITING, VideoThread, encoding_behind

WIDTH, HEIGHT = 112, 64


def frames(count):
    noise = np.random.default_rng(0)
    return [noise.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(count)]


def writer(path):
    return VideoWriter(path, width=WIDTH, height=HEIGHT, fps=15, metadata="{}")


def write(opened, count, thrown=None):
    with encoding_behind(opened) as video:
        for frame in frames(count):
            video.add(frame)
        if thrown:
            raise thrown


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("video")]


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_the_file_is_the_one_that_was_written_in_line(tmp_path, count, kind):
    for name, opened in (("a", writer), ("b", lambda path: encoding_behind(writer(path)))):
        with opened(tmp_path / f"{name}.mp4") as video:
            for frame in frames(count):
                video.add(kind(frame))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert threads() == []


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_a_frame_may_be_changed_once_it_is_given(kind):
    seen, go = [], threading.Event()

    def encode(frame):
        assert go.wait(HANGS)
        seen.append(int(frame[0, 0, 0]))

    thread = VideoThread(encode)
    frame = kind(np.zeros((2, 2, 3), np.uint8))
    for number in range(3):
        frame[:] = number
        thread.add(frame)
    frame[:] = 99
    go.set()
    thread.finish()
    thread.close()
    assert seen == [0, 1, 2]


def test_frames_are_encoded_while_others_are_made():
    """Would one wait for the other, this would wait for ever."""
    made = threading.Event()
    thread = VideoThread(lambda _: made.wait(HANGS) or pytest.fail("nothing was made meanwhile"))
    thread.add(np.zeros((2, 2, 3), np.uint8))
    made.set()
    thread.finish()
    thread.close()


def test_who_makes_frames_too_fast_is_held_up():
    go, given = threading.Event(), []
    thread = VideoThread(lambda _: go.wait(HANGS))

    def give():
        for number in range(MOST_WAITING + 3):
            thread.add(np.zeros((2, 2, 3), np.uint8))
            given.append(number)

    giving = threading.Thread(target=give)
    giving.start()
    giving.join(0.3)
    assert giving.is_alive()
    assert len(given) == MOST_WAITING
    go.set()
    giving.join(HANGS)
    assert len(given) == MOST_WAITING + 3
    thread.close()


@pytest.mark.parametrize("failing", [0, 2, 29])
def test_an_error_reaches_the_caller_as_it_is_and_leaves_nothing(tmp_path, failing):
    """Of the last frame, too, which nothing comes after."""
    opened = writer(tmp_path / "a.mp4")
    add, count = opened.add, iter(range(30))

    def broken(frame):
        if next(count) == failing:
            raise OutputError("a.mp4: the disk of films is full; free some space")
        add(frame)

    opened.add = broken
    with pytest.raises(OutputError, match="the disk of films is full"):
        write(opened, 30)
    assert list(tmp_path.iterdir()) == []
    assert threads() == []


@pytest.mark.parametrize("thrown", [KeyboardInterrupt, GeneratorExit, ArithmeticError])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_work_that_breaks_off_leaves_nothing_and_forgets_what_waits(tmp_path, thrown, count):
    with pytest.raises(thrown):
        write(writer(tmp_path / "a.mp4"), count, thrown)
    assert list(tmp_path.iterdir()) == []
    assert threads() == []


def test_a_place_that_cannot_be_written_is_told_before_the_first_frame(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="cannot be written"),
        encoding_behind(writer(tmp_path / "file" / "a.mp4")),
    ):
        pytest.fail("it was opened")
    assert threads() == []


# --- in a run --------------------------------------------------------------------------------------

BOARD = Storyboard("A house by the sea.", (Shot("wide shot of the house"),))
SMALL = Options(frames=9, height=16, width=32, steps=1, cfg=1)


@pytest.fixture(scope="module")
def toy(cache):
    return Pipeline.load(toy_model(cache))


def test_a_frame_is_decoded_while_the_one_before_is_encoded(toy, tmp_path, monkeypatch):
    decoded, pixels, add = threading.Event(), [], VideoWriter.add

    def to_uint8(frame):
        pixels.append(frame)
        if len(pixels) == 2:
            decoded.set()
        return real(frame)

    def waiting(video, frame):
        assert decoded.wait(HANGS), "the second frame waited for the first"
        add(video, frame)

    from holo_lite.render import decode_phase as decode

    real = decode.to_uint8
    monkeypatch.setattr(decode, "to_uint8", to_uint8)
    monkeypatch.setattr(VideoWriter, "add", waiting)
    shown = [
        event.pixels for event in toy.generate(BOARD, tmp_path / "a.mp4", SMALL) if isinstance(event, FrameDone)
    ]
    with av.open(str(tmp_path / "a.mp4")) as container:
        written = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) == len(written) == 9
    closest = [
        min(range(9), key=lambda at: np.abs(frame.astype(int) - shown[at].numpy()).sum()) for frame in written
    ]
    assert closest == [*range(9)], "frames are in another order"


def test_an_encoder_that_fails_in_a_run_is_told_in_one_line_and_leaves_nothing(toy, tmp_path, monkeypatch):
    def broken(video, _):
        raise OutputError(f"{video.path}: the disk is full")

    monkeypatch.setattr(VideoWriter, "add", broken)
    with pytest.raises(OutputError, match=r"a\.mp4: the disk is full"):
        list(toy.generate(BOARD, tmp_path / "a.mp4", SMALL))
    assert list(tmp_path.iterdir()) == []
    assert threads() == []
