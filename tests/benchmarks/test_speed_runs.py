"""The speed benchmark's whole runs: what levers save, how a start is timed, and the way at full size watched."""

import json
import subprocess
import sys

import pytest
from test_speed import CPU, TINIEST, work  # noqa: F401 - a fixture

from benchmarks import whole
from benchmarks.speed import levers as speed_levers, start as speed_start
from benchmarks.speed.cases import Bench, whole_model
from holo_lite import ModelOptions
from holo_lite.events import StepDone
from holo_lite.render.pipeline import Pipeline
from holo_lite.settings import Options
from holo_lite.story.storyboard import Shot, Storyboard

# --- fewer evaluations ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_levers():
    return speed_levers.levers(Pipeline.load(options=ModelOptions(device="cpu", dtype="fp32")), rounds=2)


def test_each_lever_computes_less_than_the_plain_way(with_levers):
    ways = with_levers["ways"]
    assert [len(way["seconds"]) for way in ways.values()] == [2] * len(speed_levers.LEVERS)
    assert with_levers["seconds"] is ways["none"]["seconds"]
    skipped = {name: way["skipped"] for name, way in ways.items()}
    assert 0 < skipped["--cache 0.1"] <= skipped["--cache 0.2"]
    assert {name for name, count in skipped.items() if count} == {"--cache 0.1", "--cache 0.2"}


def test_what_levers_save_stands_in_the_table(with_levers):
    first, *others = speed_levers.lines(with_levers)
    assert first.endswith("1.00 of the first")
    assert len(others) == len(speed_levers.LEVERS) - 1
    assert list(speed_levers.lines({"failed": "no memory"})) == ["levers: failed: no memory"]


# --- the start -------------------------------------------------------------------------------------


def test_a_start_is_what_comes_before_the_first_steps_own_work():
    found = speed_start.figures(100.0, [112.0, 114.0, 119.0, 121.0])  # the third opens the second expert
    assert found == {"first_step": 12.0, "step": 2.0, "until_step": 10.0}


def test_each_start_makes_a_video_of_its_own(tmp_path):
    command = speed_start.Command(tmp_path / "model", tmp_path, ("--frames", "33"))
    first = command.words("A storyboard.")
    assert first[first.index("--out") + 1] == str(tmp_path / "0.mp4")
    (tmp_path / "0.mp4.run").write_text("")
    assert str(tmp_path / "1.mp4") in command.words("A storyboard.")


def test_a_start_is_warmed_up_and_then_timed_with_a_new_and_a_known_prompt(monkeypatch, tmp_path):
    asked, seconds = [], iter([50.0, 9.0, 3.0, 4.0])

    def run(_, storyboard):
        asked.append(storyboard)
        return {"until_step": next(seconds)}

    monkeypatch.setattr(speed_start, "_run", run)
    found = speed_start.start(speed_start.Command(None, tmp_path), ("warm", "timed"))
    assert asked == ["warm", "timed", "timed", "timed"]
    assert (found["new"]["until_step"], found["seconds"]) == (9.0, [3.0, 4.0])


@pytest.mark.parametrize("steps", [4, 3])
def test_steps_are_read_from_a_process_that_tells_of_them(steps):
    script = f"print('words'); [print('event:[\"StepDone\", %d, null]' % n) for n in range({steps})]"
    child = subprocess.Popen([sys.executable, "-Sc", script], stdout=subprocess.PIPE, text=True)
    try:
        if steps == speed_start.STEPS:
            assert speed_start._steps(child) == [0, 1, 2, 3]
        else:
            with pytest.raises(RuntimeError, match="ended after 3 steps with code 0"):
                speed_start._steps(child)
    finally:
        child.stdout.close()
        child.wait()


def test_the_watched_command_tells_of_its_steps(monkeypatch, capsys, tmp_path):
    from holo_lite.views import run as console

    monkeypatch.setattr(console, "show", console.show)  # which is put back
    command = speed_start.Command(None, tmp_path, ("--frames", "9", "--device", "cpu"))
    monkeypatch.setattr(sys, "argv", ["holo-lite", *command.words("A red ball before a wall.")])
    with pytest.raises(SystemExit):
        speed_start.watch()
    said = [json.loads(line[6:])[0] for line in capsys.readouterr().out.splitlines() if line.startswith("event:")]
    assert said.count("StepDone") == speed_start.STEPS


def test_a_whole_run_is_watched_from_its_command_to_its_video(tmp_path):
    record = whole.run(speed_start.Command(None, tmp_path, ("--frames", "9", "--device", "cpu"))).figures()
    phases = record["phases"]
    assert 0 < record["resolved"] < phases["text"] < phases["denoise"] < phases["decode"] < record["finished"]
    assert len(record["steps"]) == speed_start.STEPS
    assert sum(record["steps"]) < phases["decode"] - phases["denoise"]
    assert record["process_bytes"] > 2**26, "Python and torch alone take more"
    assert (tmp_path / "0.mp4").is_file()


def test_a_whole_run_that_fails_is_no_result(tmp_path):
    with pytest.raises(RuntimeError, match="ended with code 2"):
        whole.run(speed_start.Command(None, tmp_path, ("--frames", "none")))


def test_the_synthetic_model_that_is_started_is_a_whole_one(work, tmp_path):  # noqa: F811
    """It opens, reads a prompt and makes a step."""
    bench = Bench(work, CPU, TINIEST, lambda _: None)
    board = Storyboard("A wall.", (Shot("A ball."), Shot("A cube.")))
    options = Options(frames=9, height=32, width=48, steps=1)
    run = Pipeline.load(whole_model(bench)).generate(board, tmp_path / "x.mp4", options)
    step = next(event for event in run if isinstance(event, StepDone))
    run.close()
    assert step.progress.latents.isfinite().all()
