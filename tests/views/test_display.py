"""What a person sees while something runs: bars that fit the terminal, times that come true, a summary."""

import io
import re
from itertools import chain
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console

from holo_lite.events import Finished, FrameDone, PhaseStarted, Resolved, StepDone, SteppedDown
from holo_lite.jobs.items import BatchItem, items_started
from holo_lite.progress import PhaseAdvanced
from holo_lite.render.pipeline import Pipeline
from holo_lite.sampling.sampler import Progress
from holo_lite.sampling.schedule import Schedule
from holo_lite.settings import Options
from holo_lite.story.files import load_storyboard
from holo_lite.views import progress
from holo_lite.views.display import display
from holo_lite.views.pace import Pace
from holo_lite.views.run import show
from holo_lite.views.terminal import opener, wrapped

SIZES = ((60, 16), (80, 24), (200, 50))
EMPTY = torch.zeros(1)
FRAME = torch.zeros(2, 2, 3, dtype=torch.uint8)
VIDEO = Path("a.mp4")
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Clock:
    """A time that a test lets pass."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="module")
def job():
    pipeline = Pipeline.load()
    return pipeline.prepare(load_storyboard("a road"), Options(frames=9, height=16, width=16, steps=10))


def terminal(clock, width=80, height=24):
    environment = {"TERM": "xterm", "COLUMNS": str(width), "LINES": str(height)}
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=height, get_time=clock, _environ=environment
    )


def log(clock):
    return Console(file=io.StringIO(), width=80, get_time=clock)


def written(console):
    """What a console has printed."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rows(view):
    """The live rows as a terminal has them."""
    console = Console(file=io.StringIO(), width=view._console.width, get_time=view._console.get_time)
    console.print(view.rows())
    return written(console).splitlines()


def screen(written):
    """What is left on a terminal, line by line, of what was written to it with rich's ways to move and erase."""
    lines, at = [""], 0
    for code, text in re.findall(r"\x1b\[([0-9;?]*[A-Za-z])|([^\x1b])", written):
        if code == "2K":
            lines[at] = ""
        elif code.endswith("A"):
            at -= int(code[:-1])
        elif text == "\n":
            at += 1
            lines += [""] * (at == len(lines))
        elif text not in {"", "\r"}:
            lines[at] += text
    return [line.rstrip() for line in lines[: at + 1] if line.strip()]


def resolved(job, **work):
    return Resolved(job.settings, (), job.plan, "profile cpu: as asked", (), work)


def step(number, of=10, **said):
    return StepDone(Progress(Schedule.of(of).steps[number], of, EMPTY, EMPTY), **said)


def run_of(job, clock, *, first=1.0, each=1.0, frame=0.5):
    """The events of a run whose steps and frames take these seconds, the first of both `first` times as long."""
    yield resolved(job, text=1.0, denoise=10.0, decode=4.5)
    yield PhaseStarted("text", 0)
    clock.now += 3.0
    yield PhaseStarted("denoise", 10)
    for number in range(10):
        clock.now += each * (first if number == 0 else 1)
        yield step(number, memory=15 * 2**30, planned=22 * 2**30, seconds=each, waited=each / 5)
    yield PhaseStarted("load", 0, subject="the decoder")
    clock.now += 10.0
    yield PhaseStarted("decode", 9)
    for number in range(9):
        clock.now += frame * (first if number == 0 else 1)
        yield FrameDone(number, FRAME)
    yield Finished(VIDEO, VIDEO.with_suffix(".png"), job.settings, 42.4)


# --- room ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_at_most_two_rows_are_redrawn_and_they_fit_whole(job, clock, width, height):
    console, seen = terminal(clock, width, height), []
    with display(console) as view:
        for number in range(8):
            for event in run_of(job, clock):
                show(event, view)
                seen.append(rows(view))
                assert len(seen[-1]) <= 2, number
                assert all(cell_len(line) <= width for line in seen[-1])
    drawn = CODES.sub("", console.file.getvalue()).replace("\r", "\n").splitlines()
    assert max(map(cell_len, drawn)) <= width
    bars = [line for screen in seen for line in screen if "denoising" in line and "10/10" not in line]
    assert all(re.search(r"denoising [━╸╺ ]{8,} \d+/10 .*(left|so far)", line) for line in bars)
    assert ("waiting for weights" in "".join(bars)) == (width == 200)
    assert all(re.search(r"decoding and writing [━╸╺ ]{8,} \d/9 ", line) for line in seen[-3] if "decoding" in line)


def test_a_bar_has_what_room_there_is_and_nothing_is_cut_in_the_midst_of_a_word(clock):
    for width in range(24, 201):
        with display(terminal(clock, width)) as view:
            view.begin("fetching", 14 * 10**9, 2 * 10**9, unit="bytes", subject="vae/model.safetensors")
            for done in (3, 4):
                clock.now += 50.0
                view.advance(done * 10**9, "the first part, another part")
            (line,) = rows(view)
        assert cell_len(line) <= width
        words = {word for word in line.split() if not re.fullmatch(r"[━╸╺]+|[⠀-⣿]", word)}
        whole = "fetching vae/model.safetensors 4.00 GB of 14.00 GB 8:20 left 20.0 MB/s the first part another"
        assert words <= set(whole.split())
        assert {"fetching", "left"} <= words
        if width >= 60:
            assert re.search(r"[━╸╺ ]{8,} 4", line)
            assert "4.00 GB of 14.00 GB" in line


def test_lines_are_broken_between_words_in_a_terminal_and_never_in_a_pipe(clock):
    line = "note: " + "some words that go on and on " * 8 + "镜头 " * 30
    console, pipe = terminal(clock, 60), log(clock)
    for each in (console, pipe):
        with display(each) as view:
            view.say(line)
    assert pipe.file.getvalue() == line + "\n"
    told = CODES.sub("", console.file.getvalue()).replace("\r", "").splitlines()
    told = [text for text in told if text.strip()]
    assert max(map(cell_len, told)) <= 60
    assert " ".join(" ".join(told).split()) == line.strip()


def test_a_command_is_never_broken(clock):
    command = "next           holo-lite generate STORYBOARD --model " + "folder/" * 9
    console = terminal(clock, 60)
    with display(console) as view:
        view.say(command, unbroken=True)
    assert command in console.file.getvalue()


def test_a_word_wider_than_the_terminal_keeps_a_line_of_its_own():
    assert wrapped("see " + "a" * 30 + " there", 20) == ["see", "  " + "a" * 30, "  there"]
    assert wrapped("", 20) == [""]


# --- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["steps", "frames", ""])
@pytest.mark.parametrize("each", [0.2, 7.0, 90.0])
def test_a_slow_first_part_does_not_count_once_there_is_another(clock, unit, each):
    pace = Pace(log(clock), "working", 40, unit=unit)
    assert pace.left() is None
    for done in range(1, 40):
        clock.now += each * (10 if done == 1 else 1)
        pace.advance(done)
        if done > 1 and (each < 60 or unit != "frames"):  # frames of 90 s are averaged over the phase
            assert pace.left() == pytest.approx(each * (40 - done), rel=0.2)


def test_a_speed_that_changes_is_that_of_the_last_parts(clock):
    pace = Pace(log(clock), "fetching", 1000, unit="bytes")
    for done in range(1, 301):
        clock.now += 1.0 if done <= 150 else 4.0
        pace.advance(done)
    assert pace.left() == pytest.approx(4.0 * 700, rel=0.05)


def test_time_passes_while_a_part_is_on_its_way_and_stops_where_it_should_be_done(clock):
    pace = Pace(log(clock), "denoising", 4, unit="steps")
    for done in (1, 2):
        clock.now += 60.0
        pace.advance(done)
    assert pace.time() == "2:00 left"
    clock.now += 45.0
    assert pace.time() == "1:15 left"
    clock.now += 500.0
    assert pace.time() == "1:00 left"


@pytest.mark.parametrize("first", [1.0, 10.0])
def test_the_time_left_of_the_whole_run_comes_true(job, clock, first):
    """Decoding is as fast as the plan says here, but for what it loads; each of its steps makes itself known."""
    with display(log(clock)) as view:
        seen = []
        for event in run_of(job, clock, first=first):
            show(event, view)
            seen.append((type(event), clock.now, view.whole.left(), view.whole.part()))
    end, loading = clock.now, 10.0 + 0.5 * (first - 1)
    assert all(left is None for kind, _, left, _ in seen if kind is Resolved)
    steps = [(now, left) for kind, now, left, _ in seen if kind is StepDone]
    for now, left in steps[1:]:
        assert left == pytest.approx(end - now - loading, rel=0.2)
    for now, left in [(now, left) for kind, now, left, _ in seen if kind is FrameDone][1:-1]:
        assert left == pytest.approx(end - now, rel=0.2)
    parts = [part for *_, part in seen if part is not None]
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1.0)


def test_steps_without_guidance_are_known_to_take_half_as_long(clock):
    pace = Pace(log(clock), "denoising", 10, unit="steps", worth=lambda done: (done + min(done, 4)) / 2)
    for done in range(1, 4):
        clock.now += 20.0
        pace.advance(done)
    assert pace.left() == pytest.approx(20.0 + 6 * 10.0)
    assert (pace.count(), pace.rate()) == ("3/10", "20.0 s each")
    for done in range(4, 6):
        clock.now += 20.0 if done == 4 else 10.0
        pace.advance(done)
    assert pace.left() == pytest.approx(5 * 10.0)
    assert pace.rate() == "10.0 s each"


def test_several_videos_have_a_time_for_all_of_them(job, clock):
    items = [BatchItem(Path(f"{name}.toml"), Path(f"{name}.mp4")) for name in "abc"]
    console = log(clock)
    with display(console) as view:
        for begun in items_started(items, [1.0, 1.0, 2.0]):
            start = clock.now
            for event in chain((begun,), run_of(job, clock)):
                show(event, view)
                if isinstance(event, StepDone) and event.done == 5:
                    left, everything = view.whole.left(), view.whole.left_of_all()
                    one = clock.now - start + left
                    assert everything == pytest.approx(left + one * begun.rest / begun.share, rel=0.4)
                    assert view.whole.cells()[0] == f"video {begun.number} of 3"
    told = console.file.getvalue().splitlines()
    assert [line for line in told if re.match(r"\d of 3: ", line)] == [
        "1 of 3: a.mp4",
        "2 of 3: b.mp4",
        "3 of 3: c.mp4",
    ]
    assert not any(line.startswith("to watch") for line in told)


def test_a_run_that_is_continued_counts_what_was_done_before(job, clock):
    with display(log(clock)) as view:
        show(resolved(job, text=1.0, denoise=10.0, decode=1.0), view)
        show(PhaseStarted("denoise", 10, 8), view)
        clock.now += 1.0
        show(step(8), view)
        assert view.whole.part() == pytest.approx(9 / 11, rel=0.05)


def test_decoding_that_starts_again_in_tiles_starts_its_bar_again(job, clock):
    with display(terminal(clock)) as view:
        for event in [PhaseStarted("decode", 9), *(FrameDone(number, FRAME) for number in range(4))]:
            show(event, view)
        show(SteppedDown(job.plan, "tiles of 64×64 pixels"), view)
        show(PhaseStarted("decode", 9), view)
        (line,) = rows(view)
        assert "0/9" in line
    assert "decoding and writing: 4" not in written(view._console)


# --- lines that stay -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [log, terminal])
def test_the_summary_is_the_last_that_is_said(job, clock, make):
    console = make(clock)
    with display(console) as view:
        for event in run_of(job, clock, each=30.0):
            show(event, view)
    told = screen(console.file.getvalue())
    assert told[-5:] == [
        "video          a.mp4",
        "contact sheet  a.png",
        "took           0:42 (denoising 5:00)",
        f"to watch       {opener('a.mp4')}",
        "to make again  holo-lite inspect a.mp4",
    ]
    if make is terminal:
        assert [line for line in told if " in " in line] == [
            "reading the prompt in 0:03",
            "denoising: 10 steps in 5:00",
            "loading the decoder in 0:10",
            "decoding and writing: 9 frames in 0:04",
        ]


def test_each_system_opens_a_file_by_its_own_command():
    assert opener("a b.mp4", "linux") == "xdg-open 'a b.mp4'"
    assert opener("a.mp4", "darwin") == "open a.mp4"
    assert opener("a.mp4", "win32") == "start a.mp4"
    assert opener("a b.mp4", "win32") == 'explorer "a b.mp4"'


def test_little_that_comes_quickly_has_a_speed(clock):
    """A conversion of the built-in model writes kilobytes: they were 0 MB/s."""
    console = log(clock)
    with display(console) as view:
        progress.show(PhaseStarted("convert", 90_000), view)
        for done in (30_000, 60_000, 90_000):
            clock.now += 11.0
            progress.show(PhaseAdvanced(done, "a.safetensors"), view)
    assert console.file.getvalue().splitlines()[1:] == [
        "converting 30.00 kB of 90.00 kB a.safetensors, 2.7 kB/s, 0:22 left",
        "converting 60.00 kB of 90.00 kB a.safetensors, 2.7 kB/s, 0:11 left",
        "converting 90.00 kB of 90.00 kB a.safetensors, 2.7 kB/s, took 0:33",
    ]
