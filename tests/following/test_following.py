"""One clip on several devices, by real processes: the same latents as on one, and what happens when one fails."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from itertools import takewhile
from pathlib import Path

import psutil
import pytest
import torch
from guard import HANGS

from holo_lite.cancel import Cancel, Cancelled
from holo_lite.directing.retake import Retake
from holo_lite.errors import RanksError, SettingsError
from holo_lite.events import GoingOn, LatentsDone, StepDone, SteppedDown
from holo_lite.opening.company import company_of
from holo_lite.opening.options import ModelOptions
from holo_lite.ranks.watch import Patience
from holo_lite.render import pipeline as pipelines
from holo_lite.render.pipeline import Pipeline
from holo_lite.runs.folder import RunFolder
from holo_lite.settings import Options
from holo_lite.story.files import dump_toml
from holo_lite.story.storyboard import Shot, Storyboard
from holo_lite.system.cache_folder import CACHE_VARIABLE

FAULTY = Path(__file__).parents[1] / "support" / "faulty"
SHOTS = ("Close-up of [character1], still", "Wide shot of [character1], moving left", "Medium shot, still")
BOARD = Storyboard(
    "[character1] is a red square. The setting is a plain grey wall. This scene contains 3 shots.",
    tuple(Shot(caption) for caption in SHOTS),
)
OPTIONS = Options(steps=4, seed=3, frames=41, height=32, width=48)
AGAIN = 1e-5  # of latents, in the 2-norm, after four steps
LONG = HANGS  # seconds until a process that hangs fails its test


def opened(count, **options):
    return Pipeline.load(None, ModelOptions(dtype="fp32", devices=("cpu",) * count, **options))


def steps(pipeline, options=OPTIONS, board=BOARD):
    """The events of a clip's steps."""
    return list(pipeline.denoise(pipeline.prepare(board, options)))


def latents(events):
    (done,) = [event for event in events if isinstance(event, LatentsDone)]
    return done.latents


def which_skipped(events):
    return [event.progress.skipped for event in events if isinstance(event, StepDone)]


def until(events, done, harm):
    """Go through events, and do harm once so many steps are done."""
    for event in events:
        if isinstance(event, StepDone) and event.done == done:
            harm()


def others(pipeline):
    """The processes of the other ranks."""
    return [psutil.Process(process.pid) for process in pipeline.company.ranks._processes.values()]


def gone(processes):
    return not psutil.wait_procs(processes, timeout=LONG)[1]


@pytest.fixture(scope="module")
def alone():
    return Pipeline.load(None, ModelOptions(dtype="fp32", device="cpu"))


@pytest.fixture(scope="module")
def two():
    with closing(opened(2)) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def three():
    with closing(opened(3)) as pipeline:
        yield pipeline


def test_branches_apart_make_the_latents_of_one_rank_to_the_bit(alone, two):
    job = two.prepare(BOARD, OPTIONS)
    assert job.spread.way == "guidance branches apart"
    assert torch.equal(latents(steps(two)), latents(steps(alone)))


@pytest.mark.parametrize("cached", [(0.0, 0.0), (0.9, 0.9)])
def test_shots_apart_make_the_latents_of_one_rank(alone, three, cached):
    """With a step cache, too: all skip the same steps."""
    options = Options(**{**vars(OPTIONS), "cache": cached, "steps": 6})
    found, expected = steps(three, options), steps(alone, options)
    assert three.prepare(BOARD, options).spread.way == "shots apart"
    assert torch.dist(latents(found), latents(expected)) <= AGAIN * latents(expected).norm()
    skipped = [which_skipped(events) for events in (found, expected)]
    assert skipped[0] == skipped[1]
    assert any(skipped[0]) == any(cached)


def test_ranks_make_one_clip_after_another(alone, two):
    for seed, guidance in ((1, 2.0), (2, 1.0)):
        options = Options(**{**vars(OPTIONS), "seed": seed, "cfg": guidance})
        expected = latents(steps(alone, options))
        assert torch.dist(latents(steps(two, options)), expected) <= AGAIN * expected.norm()


def test_a_shot_is_made_again_on_two_ranks_as_on_one(alone, two, tmp_path):
    """Frozen frames: the other shots stay to the bit."""
    old = tmp_path / "old.mp4"
    list(alone.generate(BOARD, old, OPTIONS))
    made = [latents(steps(each, Options(seed=8), Retake(old, {2: None}))) for each in (alone, two)]
    assert torch.dist(*made) <= AGAIN * made[0].norm()
    layout = alone.prepare(BOARD, OPTIONS).settings.layout
    kept = [frame for shot in (0, 2) for frame in layout.frame_span(shot)]
    assert torch.equal(made[0][:, kept], made[1][:, kept])


def test_cancelling_ends_the_clip_everywhere_and_the_next_one_is_made(alone, two):
    cancel = Cancel()
    job = two.prepare(BOARD, OPTIONS)
    events = two.run(job, pipelines.sink_of(Nowhere()), cancel=cancel)
    with pytest.raises(Cancelled):
        until(events, 1, cancel.cancel)
    assert torch.equal(latents(steps(two)), latents(steps(alone)))


class Nowhere:
    """A sink of frames that keeps none."""

    def __getattr__(self, name):
        return lambda *_, **__: None


# --- what goes wrong -------------------------------------------------------------------------------


def faulty(monkeypatch, fault):
    """Have the ranks that are started from here on fail."""
    monkeypatch.setenv("HOLO_LITE_FAULT", fault)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAULTY), *filter(None, [os.environ.get("PYTHONPATH")])]))


def test_where_one_rank_is_out_of_memory_all_repeat_the_step_with_less(alone, monkeypatch):
    faulty(monkeypatch, "oom:45")
    with closing(opened(2)) as pipeline:
        found = steps(pipeline)
        (down,) = [event for event in found if isinstance(event, SteppedDown)]
        assert torch.dist(latents(found), latents(steps(alone))) <= AGAIN * latents(found).norm()
        assert down.change == "a shot's inputs are not held any more"
        assert down.plan.rungs[-1].at == "step 2"


def test_a_run_that_goes_on_begins_with_the_smaller_plan_of_every_rank(monkeypatch, tmp_path):
    """Rank 1 alone has too little memory. It knows so when the run goes on, and no step is tried in vain again."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    faulty(monkeypatch, "unheld:")
    with closing(opened(2)) as pipeline:
        begun, went_on = [], []
        with closing(
            pipeline.run(pipeline.prepare(BOARD, OPTIONS), tmp_path / "film.mp4", tmp_path / "run")
        ) as run:
            begun.extend(takewhile(lambda event: not (isinstance(event, StepDone) and event.done == 2), run))
        went_on.extend(pipeline.resume(tmp_path / "run"))
    assert downs(begun) == ["a shot's inputs are not held any more"]
    assert [event.done for event in went_on if isinstance(event, StepDone)] == [3, 4]
    assert downs(went_on) == []


def downs(events):
    return [event.change for event in events if isinstance(event, SteppedDown)]


def test_what_another_rank_cannot_do_is_one_line(monkeypatch):
    faulty(monkeypatch, "broken:25")
    with closing(opened(2)) as pipeline:
        with pytest.raises(RanksError, match=r"^rank 1 \(cpu\): ValueError: a bug of ours$"):
            steps(pipeline)
        processes = others(pipeline)
    assert gone(processes)


def interrupted(pipeline, folder, out, harm):
    """A run that another rank ends after two steps: what is raised."""
    job = pipeline.prepare(BOARD, OPTIONS)
    with pytest.raises(RanksError) as caught:
        until(pipeline.run(job, out, folder), 2, harm)
    return str(caught.value)


def test_a_rank_that_is_killed_ends_the_run_with_a_state_and_one_rank_finishes_it(alone, tmp_path):
    """On fewer ranks the last bits may be others, and that is said."""
    out, folder = tmp_path / "film.mp4", tmp_path / "film.mp4.run"
    with closing(opened(3)) as pipeline:
        processes = others(pipeline)
        said = interrupted(pipeline, folder, out, processes[1].kill)
        assert said.startswith("rank 2 (cpu) has ended (killed by signal 9")
    assert gone(processes)
    assert RunFolder(folder).has_state
    resumed = Pipeline.of_run(folder, devices=())
    assert resumed.company is None
    events = list(resumed.resume(folder))
    (going,) = [event for event in events if isinstance(event, GoingOn)]
    assert going.done >= 2
    assert any("ranks" in change for change in going.changes)
    last = [event for event in events if isinstance(event, StepDone)][-1].progress.latents
    expected = latents(steps(alone))
    assert torch.dist(last, expected) <= AGAIN * expected.norm()


@pytest.mark.skipif(os.name == "nt", reason="a process is stopped by a signal")
def test_a_rank_that_hangs_ends_the_run_after_its_patience(monkeypatch, tmp_path):
    monkeypatch.setattr(pipelines, "company_of", partial(company_of, patience=Patience(0.2, 6.0)))
    with closing(opened(2)) as pipeline:
        processes = others(pipeline)
        said = interrupted(pipeline, tmp_path / "run", tmp_path / "film.mp4", processes[0].suspend)
        assert said == "rank 1 (cpu) has not answered for 6 s"
    assert gone(processes)


def test_a_rank_that_does_not_start_is_one_line(monkeypatch):
    monkeypatch.setenv("HOLO_LITE_FAULT", "")
    monkeypatch.setenv("PYTHONHOME", os.devnull)  # of the others alone: no interpreter finds its library there
    with pytest.raises(RanksError, match=r"do not come together: rank 1 \(cpu\) has ended \(exit code 1"):
        opened(2)


def test_a_card_that_is_named_twice_or_beside_another_device_is_refused():
    with pytest.raises(SettingsError, match="give only one"):
        ModelOptions(device="cuda", devices=("cpu", "cpu"))


# --- the command line ------------------------------------------------------------------------------

SMALL = ("--frames", "9", "--steps", "2", "--size", "48x32", "--dtype", "fp32", "--no-latents")


def command(*words, launcher=()):
    return [sys.executable, *launcher, "-m", "holo_lite", *words]


def left_by_the_first_rank(tmp_path, number):
    """What the command says whose first rank gets a signal in mid-run, when nothing of it runs any more."""
    long = ("--frames", "41", "--steps", "200", "--size", "48x32", "--dtype", "fp32")
    (tmp_path / "scene.toml").write_text(dump_toml(BOARD), encoding="utf-8")  # a prompt that is known by now
    words = ("generate", "scene.toml", *long, "--devices", "cpu,cpu", "--out", "film.mp4")
    with subprocess.Popen(command(*words), cwd=tmp_path, stderr=subprocess.PIPE, text=True) as run:
        state = tmp_path / "film.mp4.run" / "state.safetensors"
        end = time.monotonic() + LONG
        while not state.exists() and time.monotonic() < end:
            time.sleep(0.05)
        ranks = psutil.Process(run.pid).children(recursive=True)
        assert ranks
        run.send_signal(number)
        _, said = run.communicate(timeout=LONG)
    assert gone(ranks)
    assert state.exists()
    return said


@pytest.mark.skipif(os.name == "nt", reason="signals of a terminal")
def test_nothing_is_left_running_when_the_first_rank_is_interrupted(tmp_path):
    """Killed, and started by torchrun: long_following.py."""
    said = left_by_the_first_rank(tmp_path, signal.SIGINT)
    assert "interrupted; finished steps are saved" in said
