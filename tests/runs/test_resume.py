"""Cut off at any moment, a run goes on to the same bits, and does no finished step again."""

import dataclasses
import errno
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from dying import changes, killed
from guard import wait_until
from rich.console import Console
from safetensors.torch import load_file
from toy_files import toy_model

from holo_lite import ModelOptions, Options, Pipeline, RunSettings, Shot, Storyboard
from holo_lite.errors import OutputError, RunError, SettingsError
from holo_lite.events import Finished, FrameDone, GoingOn, NoLatents, NotSaved, PhaseStarted, StepDone, SteppedDown
from holo_lite.film.video import read_metadata
from holo_lite.runs.folder import RunFolder
from holo_lite.sampling import sampler
from holo_lite.system.cache_folder import CACHE_VARIABLE
from holo_lite.system.whole_files import Draft
from holo_lite.views.display import display
from holo_lite.views.run import show

ROOT = Path(__file__).parents[2]
BOARD = Storyboard("A house by the sea.", (Shot("wide shot of the house"), Shot("close shot of the door")))
SMALL = Options(frames=5, height=16, width=16, steps=4)
WORDS: tuple[str, ...] = ("[global caption] A house. [per shot caption] a [shot cut] b", "--frames", "5")
WORDS += ("--height", "16", "--width", "16", "--steps", "4")


@pytest.fixture(scope="module")
def toy(cache):
    return Pipeline.load(toy_model(cache))


def begin(pipeline, out, options=SMALL, **more):
    return pipeline.generate(BOARD, out, options, run=RunFolder.beside(out).path, **more)


def cut_off(events, after):
    """Take events up to the one of a step, by number, and close; returns them."""
    seen = []
    for event in events:
        seen.append(event)
        if isinstance(event, StepDone) and event.progress.step.index + 1 == after:
            break
    events.close()
    return seen


def steps(events):
    """The numbers of the steps that were done."""
    return [event.progress.step.index + 1 for event in events if isinstance(event, StepDone)]


def latents(events):
    return [event.progress.latents for event in events if isinstance(event, StepDone)][-1]


def films(out):
    """The video and its contact sheet, byte for byte."""
    return out.read_bytes(), out.with_suffix(".png").read_bytes()


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """An undisturbed run that nobody saved: its last latents and its films."""
    out = tmp_path_factory.mktemp("whole") / "a.mp4"
    return latents(list(toy.generate(BOARD, out, SMALL))), films(out)


# --- the same bits ---------------------------------------------------------------------------------


def test_a_run_that_is_saved_is_the_same_run_and_leaves_nothing_but_its_films(toy, whole, tmp_path):
    events = list(begin(toy, tmp_path / "a.mp4"))
    assert torch.equal(latents(events), whole[0])
    assert films(tmp_path / "a.mp4") == whole[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.latents.safetensors", "a.mp4", "a.png"]


@pytest.mark.parametrize("again", ["generate", "resume"])
@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_cut_off_after_any_step_it_goes_on_with_the_next(toy, whole, tmp_path, after, again):
    out = tmp_path / "a.mp4"
    cut_off(begin(toy, out), after)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4.run"]
    events = list(begin(toy, out) if again == "generate" else toy.resume(out))
    assert events[1] == GoingOn(tmp_path / "a.mp4.run", after, 4, ())
    assert steps(events) == [*range(after + 1, 5)]
    phases = [event for event in events if isinstance(event, PhaseStarted)]
    left = [PhaseStarted("text", 0), PhaseStarted("denoise", 4, after)] if after < 4 else []
    assert phases == [*left, PhaseStarted("load", 0, subject="the decoder"), PhaseStarted("decode", 5)]
    assert films(out) == whole[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.latents.safetensors", "a.mp4", "a.png"]


@pytest.mark.parametrize("kind", [GoingOn, PhaseStarted, FrameDone])
def test_closed_before_its_next_step_it_stands_where_it_stood(toy, whole, tmp_path, kind):
    out = tmp_path / "a.mp4"
    cut_off(begin(toy, out), 4 if kind is FrameDone else 2)
    run = begin(toy, out)
    assert any(isinstance(event, kind) for event in run)
    run.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4.run"]
    list(begin(toy, out))
    assert films(out) == whole[1]


def test_cut_off_again_and_again_with_a_step_cache_it_skips_the_same_steps(toy, tmp_path):
    """What the cache remembers goes through the file, and a step that was skipped leaves it as it was."""
    cached = dataclasses.replace(SMALL, steps=12, cache=(1.0, 1.0))
    events = list(toy.generate(BOARD, tmp_path / "a.mp4", cached))
    skipped = [event.progress.step.index + 1 for event in events if isinstance(event, StepDone) and event.skipped]
    assert len(skipped) >= 3
    out, again = tmp_path / "b.mp4", []
    for after in (*skipped, 12):
        seen = cut_off(begin(toy, out, cached), after)
        again += [event.progress.step.index + 1 for event in seen if isinstance(event, StepDone) and event.skipped]
    assert again == skipped
    assert torch.equal(latents(seen), latents(events))
    list(begin(toy, out, cached))
    assert films(out) == films(tmp_path / "a.mp4")


def test_a_smaller_plan_is_gone_on_with(toy, tmp_path, monkeypatch):
    """The steps after memory ran out were computed with it, and their last bits depend on it."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    euler = sampler.euler

    def full_at(step):
        calls = iter(range(1, 100))

        def full_once(*given):
            if next(calls) == step:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return euler(*given)

        return full_once

    monkeypatch.setattr(sampler, "euler", full_at(2))
    undisturbed = list(toy.generate(BOARD, tmp_path / "a.mp4", SMALL))
    shutil.rmtree(tmp_path / "cache")  # where the smaller plan is remembered
    monkeypatch.setattr(sampler, "euler", full_at(2))
    assert any(isinstance(event, SteppedDown) for event in cut_off(begin(toy, tmp_path / "b.mp4"), 3))
    shutil.rmtree(tmp_path / "cache")
    events = list(begin(toy, tmp_path / "b.mp4"))
    assert steps(events) == [4]
    assert [rung.change for rung in events[0].plan.rungs] == ["a shot's inputs are not held any more"]
    assert not events[0].plan.chunks.holding
    assert events[-1].settings.plan == undisturbed[-1].settings.plan
    assert films(tmp_path / "b.mp4") == films(tmp_path / "a.mp4")


def test_the_convolutions_of_a_run_are_not_chosen_by_a_race(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    run = toy.generate(BOARD, tmp_path / "a.mp4", SMALL)
    assert not any(torch.backends.cudnn.benchmark for event in run if isinstance(event, StepDone | FrameDone))
    assert torch.backends.cudnn.benchmark, "it is somebody else's switch"


# --- killed ----------------------------------------------------------------------------------------

TWO = dataclasses.replace(SMALL, steps=2)


def points(kinds):
    """Where to kill: before one call of every kind, in a write, and behind every rename."""
    first = {kind: index for index, kind in reversed([*enumerate(kinds)]) if kind != "replace"}
    renames = [index for index, kind in enumerate(kinds) if kind == "replace"]
    last_write = max(index for index, kind in enumerate(kinds) if kind == "write")
    yield from ((index, "before") for index in first.values())
    yield from ((index, "behind") for index in renames)
    yield last_write, "midway"
    yield renames[2], "before"  # the second state has its temporary name yet
    yield renames[4], "before"  # and so has the contact sheet
    yield len(kinds) - 2, "behind"  # the last file of the run is removed, its folder not


def test_killed_around_writes_fsyncs_and_renames_at_most_one_step_is_lost(toy, tmp_path):
    list(toy.generate(BOARD, tmp_path / "whole.mp4", TWO))
    film = films(tmp_path / "whole.mp4")
    run = partial(begin, toy, options=TWO)
    kinds = changes(lambda: list(run(tmp_path / "counted" / "a.mp4")))
    assert kinds.count("replace") == 6  # the record, two states, the video, the contact sheet, the latents
    renames = [index for index, kind in enumerate(kinds) if kind == "replace"]
    for number, (call, when) in enumerate(sorted(points(kinds))):
        out = tmp_path / f"{number}" / "a.mp4"
        assert killed(lambda out=out: list(run(out)), call, when)
        if out.exists():
            assert out.read_bytes() == film[0], "half of a video has its name"
        events = list(run(out))
        if call <= renames[4]:  # the films are not complete yet
            saved = [state for state in renames[1:3] if call > state or (call, when) == (state, "behind")]
            assert len(steps(events)) == 2 - len(saved), (call, when)
        assert films(out) == film, (call, when)
        assert sorted(path.name for path in out.parent.iterdir()) == ["a.latents.safetensors", "a.mp4", "a.png"]


def test_the_command_killed_goes_on_after_the_last_saved_step(run, toy_copy, tmp_path):
    """A process of its own, as people run it."""
    words = ("generate", *WORDS, "--model", str(toy_copy), "--seed", "7", "--steps", "60")
    assert run(*words, "--out", "whole.mp4").code == 0
    command = [sys.executable, str(ROOT / "cli.py"), *words, "--out", "a.mp4"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: RunFolder(tmp_path / "a.mp4.run").has_state)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    outcome = run("resume", "a.mp4")
    assert outcome.code == 0
    (told,) = [line for line in outcome.err.splitlines() if line.startswith("continuing after step ")]
    assert re.fullmatch(r"continuing after step \d+ of 60", told)
    assert films(tmp_path / "a.mp4") == films(tmp_path / "whole.mp4")


# --- decoding and writing that fail ----------------------------------------------------------------


def test_a_failure_while_writing_costs_no_step(toy, whole, tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target):
        if str(target).endswith(".mp4"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="the disk is full; free some space"):
        list(begin(toy, tmp_path / "a.mp4"))
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr("holo_lite.render.denoise_phase.StreamedExperts", None)  # no expert is touched from here on
    monkeypatch.setattr("holo_lite.render.text_phase.TextEncoder", None)
    events = list(begin(toy, tmp_path / "a.mp4"))
    assert steps(events) == []
    assert films(tmp_path / "a.mp4") == whole[1]


def test_a_disk_too_full_for_states_costs_no_video(toy, whole, tmp_path, monkeypatch):
    class Full(Draft):
        def keep(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("holo_lite.weights.shard.Draft", Full)
    events = list(begin(toy, tmp_path / "a.mp4"))
    assert [event.saved for event in events if isinstance(event, NotSaved)] == [0]
    assert sum(isinstance(event, NoLatents) for event in events) == 1  # it is written as states are
    assert films(tmp_path / "a.mp4") == whole[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "a.png"]


# --- what goes on where ----------------------------------------------------------------------------


def test_a_kept_run_holds_the_latents_and_makes_the_video_again(toy, whole, tmp_path):
    out = tmp_path / "a.mp4"
    list(begin(toy, out, keep_run=True))
    assert torch.equal(RunFolder.beside(out).state()[0].latents, whole[0])
    assert torch.equal(load_file(tmp_path / "a.mp4.run" / "state.safetensors")["latents"], whole[0])
    out.unlink()
    list(toy.resume(out))
    assert films(out) == whole[1]
    assert not RunFolder.beside(out).path.exists()


def test_a_run_is_resumed_by_its_own_settings_into_another_place(toy, whole, tmp_path):
    cut_off(begin(toy, tmp_path / "a.mp4"), 2)
    done = list(toy.resume(tmp_path / "a.mp4.run", tmp_path / "new" / "b.mp4"))[-1]
    assert (done.video, done.settings.seed) == (tmp_path / "new" / "b.mp4", 0)
    assert films(done.video) == whole[1]


def test_the_model_of_a_run_is_found_by_its_record(toy, toy_copy, whole, tmp_path):
    cut_off(begin(Pipeline.load(toy_copy, ModelOptions(device="cpu")), tmp_path / "a.mp4"), 2)
    pipeline = Pipeline.of_run(tmp_path / "a.mp4")
    assert (pipeline.model.folder.path, pipeline.model.fingerprint, pipeline.model.is_built_in) == (
        toy_copy,
        toy.model.fingerprint,
        False,
    )
    toy_copy.rename(tmp_path / "moved")
    moved = Pipeline.of_run(tmp_path / "a.mp4", model=tmp_path / "moved")
    list(moved.resume(tmp_path / "a.mp4"))
    assert films(tmp_path / "a.mp4") == whole[1]


@pytest.mark.parametrize("change", ["weights", "dtype", "attention"])
def test_another_model_is_refused_and_nothing_is_lost(toy, toy_copy, cache, tmp_path, change):
    cut_off(begin(toy, tmp_path / "a.mp4"), 2)
    if change == "weights":
        path = toy_copy / "dit_low_noise.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
    said = {"dtype": {"dtype": "bf16"}, "attention": {"attention": "full"}, "weights": {}}[change]
    other = Pipeline.load(toy_copy if change == "weights" else toy_model(cache), ModelOptions(**said))
    named = {"dtype": "dtype fp32, now bf16", "attention": "attention sparse, now full"}.get(change)
    with pytest.raises(RunError) as caught:
        other.resume(tmp_path / "a.mp4")
    told = named or f"model {toy.model.fingerprint}, now {other.model.fingerprint}"
    path = tmp_path / "a.mp4.run"
    assert str(caught.value) == f"{path}: was begun with another model ({told}); give that model"
    assert RunFolder(path).state()[0].done == 2


def test_other_threads_are_told_and_the_run_goes_on(toy, tmp_path, monkeypatch):
    cut_off(begin(toy, tmp_path / "a.mp4"), 2)
    monkeypatch.setattr("holo_lite.opening.model.OpenedModel.threads", 2)
    events = list(begin(toy, tmp_path / "a.mp4"))
    assert events[1].changes == ("threads 1, now 2",)
    made_with = RunSettings.from_json(read_metadata(tmp_path / "a.mp4")).made_with
    assert made_with.endswith("; after step 2: threads 1, now 2")
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize(
    ("said", "gone", "changed"),
    [("auto", False, ()), ("auto", True, ("kernel one, now two",)), ("two", False, ("kernel one, now two",))],
)
def test_auto_comes_to_what_the_run_was_begun_with(toy, tmp_path, monkeypatch, said, gone, changed):
    """`auto` may be measured otherwise on another day; a kernel that a person names is that one."""

    def opened(kernel, fastest, *others):
        def choose(said, *_, **__):
            name = fastest if said.kernel == "auto" else said.kernel
            if name not in {fastest, *others}:
                raise SettingsError(f"kernel '{name}': it is not installed")
            same, resolved = toy.model.setup, dataclasses.replace(toy.model.setup.choice, kernel=name)
            return dataclasses.replace(same, record={**same.record, "kernel": name}, choice=resolved)

        monkeypatch.setattr("holo_lite.opening.model.choose_computing", choose)
        return Pipeline.load(toy.model.folder.path, ModelOptions(kernel=kernel))

    cut_off(begin(opened("auto", "one", "two"), tmp_path / "a.mp4"), 2)
    events = list(begin(opened(said, "two", *([] if gone else ["one"])), tmp_path / "a.mp4"))
    assert events[1].changes == changed
    assert events[-1].settings.computing["kernel"] == ("two" if changed else "one")


def test_other_settings_in_its_place_are_refused_before_the_first_event(toy, tmp_path):
    cut_off(begin(toy, tmp_path / "a.mp4"), 2)
    with pytest.raises(RunError, match=r"other settings \(seed 0, now 9\); resume it"):
        begin(toy, tmp_path / "a.mp4", dataclasses.replace(SMALL, seed=9))
    assert RunFolder(tmp_path / "a.mp4.run").state()[0].done == 2


def test_a_torn_state_is_told_before_the_first_event(toy, tmp_path):
    cut_off(begin(toy, tmp_path / "a.mp4"), 2)
    path = tmp_path / "a.mp4.run" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"state\.safetensors: is damaged, or was changed"):
        begin(toy, tmp_path / "a.mp4")


# --- the command line ------------------------------------------------------------------------------


def stop_after(monkeypatch, step, error):
    """Break off whatever runs next once a step is saved."""
    save = RunFolder.save

    def saving(folder, state, before):
        stored = save(folder, state, before)
        if state.done == step:
            raise error
        return stored

    monkeypatch.setattr(RunFolder, "save", saving)


def test_ctrl_c_tells_the_command_that_goes_on(run, toy_copy, tmp_path, monkeypatch):
    words = ("generate", *WORDS, "--model", toy_copy, "--out", "my film.mp4")
    with monkeypatch.context() as patch:
        stop_after(patch, 2, KeyboardInterrupt)
        outcome = run(*words)
    assert outcome.code == 130
    told = "interrupted; finished steps are saved; to continue, type holo-lite resume 'my film.mp4.run'"
    assert outcome.err.splitlines()[-1] == told
    again = run("resume", "my film.mp4.run")
    assert (again.code, again.out) == (0, "")
    assert "continuing after step 2 of 4" in again.err.splitlines()
    assert (tmp_path / "my film.mp4").is_file()


def test_an_error_after_saved_steps_tells_the_command_that_goes_on(run, toy_copy, monkeypatch):
    monkeypatch.setattr("holo_lite.film.video.CRF", "no number")
    outcome = run("generate", *WORDS, "--model", toy_copy, "--out", "a.mp4")
    assert outcome.code == 2
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: a.mp4: cannot be written")
    assert last.endswith("; finished steps are saved: holo-lite resume a.mp4.run continues")


def test_a_name_that_nobody_gave_finds_its_run_again_and_never_anothers(run, toy_copy, tmp_path, monkeypatch):
    words = ("generate", *WORDS, "--model", toy_copy)
    with monkeypatch.context() as patch:
        stop_after(patch, 2, KeyboardInterrupt)
        run(*words)
    other = run(*words, "--seed", 5)
    assert (
        "note: video.mp4.run holds another unfinished run; holo-lite resume video.mp4.run continues it" in other.err
    )
    assert sorted(path.name for path in tmp_path.glob("video*")) == [
        *("video-2.latents.safetensors", "video-2.mp4", "video-2.png"),
        "video.mp4.run",
    ]
    same = run(*words)
    assert "continuing after step 2 of 4" in same.err
    assert (tmp_path / "video.mp4").is_file()
    assert not (tmp_path / "video.mp4.run").exists()


def test_a_run_can_be_kept_and_decoded_again(run, toy_copy, tmp_path):
    run("generate", *WORDS, "--model", toy_copy, "--out", "a.mp4", "--keep-run")
    film = films(tmp_path / "a.mp4")
    outcome = run("resume", "a.mp4", "--keep-run")
    assert "continuing after step 4 of 4: only decoding is left" in outcome.err.splitlines()
    assert films(tmp_path / "a.mp4") == film
    assert (tmp_path / "a.mp4.run").is_dir()


@pytest.mark.parametrize("name", ["nowhere", "nowhere.mp4"])
def test_resuming_nothing_costs_one_line(run, name):
    outcome = run("resume", name)
    assert outcome.code == 2
    mend = "name the video or its .run folder"
    assert outcome.err == f"error: {name}: no interrupted run found here or in {name}.run; {mend}\n"


def test_a_run_goes_on_within_another_profile_if_it_is_named(run, toy_copy, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2, KeyboardInterrupt)
        run("generate", *WORDS, "--model", toy_copy, "--out", "a.mp4")
    outcome = run("resume", "a.mp4", "--profile", "nothing")
    assert outcome.code == 2
    assert "nothing" in outcome.err
    assert run("resume", "a.mp4", "--profile", "cpu").code == 0


def test_what_a_person_sees_of_a_run_that_goes_on(tmp_path):
    file = io.StringIO()
    with display(Console(file=file, width=200)) as view:
        show(GoingOn(tmp_path, 3, 50, ("torch 2.13.0, now 2.14.0", "threads 8, now 4")), view)
        show(GoingOn(tmp_path, 50, 50), view)
        show(NotSaved("a.mp4.run: the disk is full", 0), view)
        show(NotSaved("a.mp4.run: the disk is full", 7), view)
    assert file.getvalue().splitlines() == [
        "continuing after step 3 of 50",
        "note: changed since the start: torch 2.13.0, now 2.14.0; threads 8, now 4: "
        "the result may differ in the last bits",
        "continuing after step 50 of 50: only decoding is left",
        "warning: progress cannot be saved (a.mp4.run: the disk is full); if interrupted, the run will start over",
        "warning: progress cannot be saved (a.mp4.run: the disk is full); "
        "if interrupted, the run will continue after step 7",
    ]


def test_the_pace_of_a_run_that_goes_on_counts_its_own_steps(toy, tmp_path):
    now = [0.0]
    cut_off(begin(toy, tmp_path / "a.mp4"), 2)
    file = io.StringIO()
    with display(Console(file=file, width=200, get_time=lambda: now[0])) as view:
        for event in begin(toy, tmp_path / "a.mp4"):
            now[0] += 20.0 if isinstance(event, StepDone) else 0.0
            show(event, view)
    assert "denoising 3/4 low-noise, 20.0 s each, 0:20 left; whole run " in file.getvalue()
