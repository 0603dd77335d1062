"""What a person sees of a farm: a row a card, one time for all, and lines that say what happened."""

import io
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from holo_lite.farm.events import (
    CardLost,
    CardOpened,
    CardRefused,
    ClipBegun,
    ClipTold,
    MadeElsewhere,
    NoCardYet,
)
from holo_lite.jobs.items import BatchItem, ItemEnded
from holo_lite.views.farm import LiveFarm, farm_view
from holo_lite.views.farm_progress import FarmProgress

A, B = (BatchItem(Path(f"{name}.toml"), Path(f"films/{name}.mp4")) for name in "ab")
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
WORK = {"text": 0.0, "denoise": 8.0, "decode": 2.0}


class Clock:
    """A time that a test lets pass."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def told(item, place, kind, **fields):
    return ClipTold(item, place, {"kind": kind, **fields})


def denoising(item, place, done=0, total=4):
    phase = {"phase": "denoise", "total": total, "done": done, "unit": "steps", "subject": ""}
    return [told(item, place, "resolved", work=WORK, notes=[]), told(item, place, "phase", **phase)]


def plain(clock, events):
    """The lines that a log has of events, each a second after the one before it."""
    log = io.StringIO()
    with farm_view(Console(file=log, get_time=clock)) as view:
        for event in events:
            clock.now += 1
            view.show(event)
    return log.getvalue().splitlines()


def test_a_log_says_what_happened_and_where(clock):
    events = [
        NoCardYet(2),
        CardOpened("left", "RTX 3090, 24gb"),
        CardRefused("right", "it does not see /films; mount the disk there"),
        ClipBegun(A, "left", 1, 2, 10.0, 5.0),
        *denoising(A, "left"),
        told(A, "left", "not_saved", why="the disk is full", saved=0),
        told(A, "left", "smaller_plan", change="smaller chunks"),
        CardLost("left", "the machine is gone", A, 3),
        ClipBegun(A, "left", 1, 2, 10.0, 5.0),
        told(A, "left", "going_on", done=3, total=4),
        MadeElsewhere(B),
        ItemEnded(A, "done", seconds=42.0),
        ItemEnded(B, "there", "exists with these settings"),
    ]
    assert plain(clock, events) == [
        "all cards are taken by others (2); waiting for one",
        "left: ready (RTX 3090, 24gb)",
        "right: is not used; it does not see /films; mount the disk there",
        "1 of 2: films/a.mp4, on left",
        "films/a.mp4: warning: progress cannot be saved (the disk is full)",
        "films/a.mp4: memory ran out: continuing with smaller chunks",
        "left: lost (the machine is gone); films/a.mp4 goes on from step 3",
        "1 of 2: films/a.mp4, on left",
        "films/a.mp4: continuing after step 3 of 4",
        "films/b.mp4: somebody else is making it; it is looked at again",
        "done        films/a.mp4  in 0:42",
        "kept        films/b.mp4  exists with these settings",
    ]


def test_a_log_has_a_line_of_each_card_at_most_every_ten_seconds(clock):
    begun = [ClipBegun(A, "left", 1, 2, 10.0, 5.0), *denoising(A, "left", total=40)]
    steps = [told(A, "left", "step", done=done) for done in range(1, 26)]
    lines = [line for line in plain(clock, [*begun, *steps]) if "denoising" in line]
    assert len(lines) == 2
    assert lines[0].startswith("films/a.mp4, on left: denoising 8/40 1.0 s each, 0:32 left; 0 of 2 videos, about ")


def test_what_is_left_is_all_work_at_the_speed_of_all_cards(clock):
    progress = FarmProgress(clock)
    for item, place, rest in ((A, "left", 30.0), (B, "right", 20.0)):
        progress.begin(ClipBegun(item, place, 1, 3, 10.0, rest))
        for event in denoising(item, place):
            progress.running[place].hear(event.record)
    assert progress.left() is None, "nothing is known before the first step"
    clock.now += 10.0
    for place in ("left", "right"):
        progress.running[place].hear({"kind": "step", "done": 2})
    assert progress.left() == pytest.approx((20.0 + 2 * 6.0) * 10.0 / 8.0)
    progress.end("left", whole=True)
    assert (progress.ended, progress.left()) == (1, pytest.approx((20.0 + 6.0) * 10.0 / 14.0))
    progress.end("right", whole=False)
    assert progress.left() == pytest.approx((20.0 + 6.0) * 10.0 / 14.0), "what is left of it is to be made yet"


def test_steps_of_an_earlier_day_are_not_this_cards_speed(clock):
    progress = FarmProgress(clock)
    progress.begin(ClipBegun(A, "left", 1, 1, 10.0, 0.0))
    for event in denoising(A, "left", done=3):
        progress.running["left"].hear(event.record)
    clock.now += 5.0
    progress.running["left"].hear({"kind": "step", "done": 4})
    assert progress.left() == pytest.approx(2.0 * 5.0 / 2.0)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_row_is_wider_than_the_terminal_and_all_cards_fit(clock, width):
    environment = {"TERM": "xterm", "COLUMNS": str(width), "LINES": "6"}
    console = Console(
        file=io.StringIO(), force_terminal=True, width=width, height=6, get_time=clock, _environ=environment
    )
    with farm_view(console) as view:
        assert isinstance(view, LiveFarm)
        for number in range(9):
            item = BatchItem(A.storyboard, Path(f"films/a long name of a film {number}.mp4"))
            place = f"a machine with a long name card {number}"
            for event in (ClipBegun(item, place, number + 1, 9, 10.0, 5.0), *denoising(item, place)):
                view.show(event)
        with console.capture() as capture:
            console.print(view.rows())
    rows = CODES.sub("", capture.get()).strip("\r\n").splitlines()
    assert len(rows) == 5, "four cards and all of them: a terminal is not higher than it is"
    assert all(cell_len(row) <= width for row in rows)
    assert "0 of 9 videos" in rows[-1]


def test_a_name_commands_no_terminal(clock):
    item = BatchItem(A.storyboard, Path("films/\x1b]0;owned\x07.mp4"))
    lines = plain(clock, [ClipBegun(item, "le\x1b[2Jft", 1, 1, 1.0, 0.0), CardRefused("x", "why\x1b[2J")])
    assert not any("\x1b" in line for line in lines)
